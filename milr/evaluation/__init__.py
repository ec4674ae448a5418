"""How good an explanation is: where it points, what its maps are worth, and how sure that is."""
