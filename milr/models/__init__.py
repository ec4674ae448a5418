"""The model that is explained: a prototypical network, and how it is trained."""
