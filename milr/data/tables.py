"""Small tables of numbers with a class for each row: Iris, banknotes, and one that is drawn here.

Iris is scikit-learn's copy. The banknotes are fetched once, from the address and with the digest in
`data/sources.yml`, or lie in the data root already. The drawn table needs neither.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split

from milr.data.download import check_space, fetch
from milr.data.sources import read
from milr.paths import data_root

NOTES = ("variance", "skewness", "kurtosis", "entropy")  # of a wavelet transform of the picture
# Without a network a reader gets the drawn table, and should not have to wait long for it.
ATTEMPTS = 2


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of `features` (n, d) float64 with their `labels` (n,), 0 to the number of classes."""

    name: str
    features: np.ndarray
    labels: np.ndarray
    columns: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """sha256 of features and labels."""
        content = self.features.tobytes() + self.labels.astype("<i8").tobytes()
        return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, eq=False)
class Split:
    """A table whose features have mean 0 and deviation 1 on the rows that are learned from.

    features: (n, d) float32, all rows; train, test: the places of the rows in the two parts.
    """

    table: Table
    features: np.ndarray
    train: np.ndarray
    test: np.ndarray


def iris() -> Table:
    """150 flowers of three species, four lengths in centimetres (Fisher 1936)."""
    found = datasets.load_iris()
    columns = [name.removesuffix(" (cm)") for name in found.feature_names]
    return checked("iris", found.data, found.target, columns, found.target_names)


def banknote(root: Path | None = None) -> Table:
    """1372 banknotes, genuine or forged, four numbers of a picture of each (Lohweg 2012).

    root: the data root if None. Fetched if it is not there: raises `download.DownloadError`, which
    says what to do, if that fails or if the file is not the one that it should be.
    """
    source = read()["banknote"]
    (file,) = source.files
    path = (data_root() if root is None else root) / source.folder / file.name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        check_space(path.parent, source.space)
    numbers = np.loadtxt(fetch(file.address, path, file.digest, ATTEMPTS), delimiter=",")
    return checked("banknote", numbers[:, :-1], numbers[:, -1], NOTES, ("genuine", "forged"))


def drawn(seed: int = 0, rows: int = 300) -> Table:
    """Two classes, four features: one tells the class, a noisy copy, a weak one, and junk."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    noise = random.standard_normal((rows, 4))
    tells = 3.0 * labels + noise[:, 0]
    columns = np.stack([tells, tells + noise[:, 1], labels + noise[:, 2], noise[:, 3]], axis=1)
    return checked("drawn", columns, labels, ("tells", "copy", "weak", "junk"), ("no", "yes"))


def checked(name: str, features, labels, columns: Sequence[str], classes: Sequence[str]) -> Table:
    """A table of these parts.

    features: (n, d) numbers; labels: (n,) whole numbers from 0. Raises ValueError, which says what
    to do, for other shapes, values that are not finite, constant features, labels that are not the
    numbers of the classes, and rows that are all of one class.
    """
    features, labels = np.asarray(features, float), np.asarray(labels)
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"{name}: features have shape {features.shape} and labels {labels.shape}; give (n, d) "
            "and (n,), a row and a label for each sample"
        )
    if bad := int((~np.isfinite(features)).any(1).sum()):
        raise ValueError(
            f"{name}: {bad} of {len(features)} rows have missing or infinite values; leave those "
            "rows out, or fill them in before"
        )
    constant = np.flatnonzero(np.ptp(features, axis=0) == 0)
    if len(constant):
        raise ValueError(
            f"{name}: feature {columns[constant[0]]!r} is constant; it can tell nothing and has no "
            "deviation to divide by: leave it out"
        )
    return Table(name, features, _whole(name, labels, len(classes)), tuple(columns), tuple(classes))


def split(table: Table, seed: int, share: float = 0.6) -> Split:
    """Rows to learn from (`share` of them, of each class alike) and rows to test on.

    Raises ValueError if a feature is constant in the rows to learn from.
    """
    train, test = train_test_split(
        np.arange(len(table.labels)), train_size=share, random_state=seed, stratify=table.labels
    )
    learned = table.features[train]
    constant = np.flatnonzero(np.ptp(learned, axis=0) == 0)
    if len(constant):
        raise ValueError(
            f"{table.name}: feature {table.columns[constant[0]]!r} is constant in the rows to "
            "learn from, so nothing can be learned of it; leave it out, or take another seed"
        )
    features = (table.features - learned.mean(0)) / learned.std(0)
    return Split(table, features.astype(np.float32), np.sort(train), np.sort(test))


def _whole(name: str, labels: np.ndarray, classes: int) -> np.ndarray:
    if labels.dtype.kind not in "iuf" or (labels != np.round(labels.astype(float))).any():
        raise ValueError(
            f"{name}: labels are {labels.dtype}, such as {labels.ravel()[0]!r}; give the classes "
            "as whole numbers from 0 (numpy.unique(labels, return_inverse=True) makes them)"
        )
    found = np.unique(labels)
    if len(found) < 2:
        raise ValueError(
            f"{name}: all {len(labels)} rows are of class {found[0]:g}; a classifier needs at "
            "least two classes"
        )
    if found[0] < 0 or found[-1] >= classes:
        raise ValueError(
            f"{name}: labels lie from {found[0]:g} to {found[-1]:g} and there are {classes} names "
            "of classes; number the classes from 0"
        )
    return labels.astype(np.int64)
