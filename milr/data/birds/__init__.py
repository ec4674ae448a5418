"""Drawn birds: species that differ in known parts, each picture with the masks of its parts."""

from .loading import load, picture_seed
from .picture import Drawing, generate
from .species import (
    ATTRIBUTES,
    DEFINING,
    PARTS,
    WORLDS,
    Species,
    attributes_of,
    congeners,
    splits,
)

__all__ = [
    "ATTRIBUTES",
    "DEFINING",
    "PARTS",
    "WORLDS",
    "Drawing",
    "Species",
    "attributes_of",
    "congeners",
    "generate",
    "load",
    "picture_seed",
    "splits",
]
