"""Data: drawn birds, CUB photographs, the sets of other chapters, and episodes from any of them."""
