"""What a representation knows about each location of its input, in three kinds."""

import importlib

_HOMES = {"MILR": "milr.explainer", "NotFitted": "milr.explainer", "Maps": "milr.maps"}
__all__ = ["MILR", "Maps", "NotFitted"]


def __getattr__(name: str):
    # Only when asked for: the runner imports milr too, and should not wait for torch.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
