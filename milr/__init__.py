"""What a representation knows about each location of its input, in three kinds."""

from milr.explainer import MILR, NotFitted
from milr.maps import Maps

__all__ = ["MILR", "Maps", "NotFitted"]
