"""Where things lie: the checkout, the data root, the cache and what is built."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The folder of the photographs below the data root, and what to do where it is not.
CUB = "CUB_200_2011"
GET_CUB = (
    f"Get the data set with `make data-cub` (it leaves a {CUB} that is there as it is: move that "
    f"away first), or let MILR_DATA name the folder that holds {CUB}."
)


def data_root() -> Path:
    """Folder of downloaded data sets: `MILR_DATA`, or `data/downloads` in the checkout."""
    return _from_environment("MILR_DATA", ROOT / "data" / "downloads")


def build_root() -> Path:
    """Folder of everything that can be made again: `MILR_BUILD`, or `build` in the checkout."""
    return _from_environment("MILR_BUILD", ROOT / "build")


def cache_root() -> Path:
    """Folder of trained weights and drawn images: `MILR_CACHE`, or `cache` in the build folder."""
    return _from_environment("MILR_CACHE", build_root() / "cache")


def _from_environment(name: str, default: Path) -> Path:
    given = os.environ.get(name)
    if not given:
        return default
    path = Path(given).expanduser()
    # Relative to the checkout, not to the working folder: notebooks run in a folder of their own.
    return path if path.is_absolute() else (ROOT / path).resolve()
