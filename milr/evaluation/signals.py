"""What a signal that was made of a prediction is worth: effects, bounds, and what leaks into it."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn

from milr.estimators import estimate
from milr.estimators.result import Estimate
from milr.evaluation.statistics import Interval

ROUNDING = 1e-5  # of single precision: a component this small beside the first is none


@torch.no_grad()
def pixel_effects(model: nn.Module, images: Tensor, reference: Tensor) -> Tensor:
    """What replacing each pixel does to the decision: (B, H, W), in nats.

    images: (B, 1, H, W); reference: (1, H, W), what takes a pixel's place. The effect is the drop
    of the log-probability of the class that the model chooses on the whole image, negative where
    the decision gains.
    """
    height, width = images.shape[-2:]
    chosen = model(images).argmax(1)
    found = []
    for image, choice in zip(images, chosen, strict=True):
        each = torch.eye(height * width, dtype=torch.bool).reshape(-1, 1, height, width)
        changed = torch.where(each, reference, image)
        both = model(torch.cat([image[None], changed])).log_softmax(1)[:, choice]
        found.append((both[0] - both[1:]).reshape(height, width))
    return torch.stack(found)


def class_distance(maps: Tensor, others: Tensor) -> Tensor:
    """(B,) L2 distance of two maps (B, H, W) of each image, each divided by its own L2 length.

    0 for maps that point the same way, the root of 2 for maps that share nothing, 2 for opposite
    ones, and NaN where one of them is 0 everywhere and points no way. Between the maps for two
    classes it is the class label sensitivity of the review of MIP-IN, for maps of one length.
    """
    flat = [one.flatten(1).double() for one in (maps, others)]
    a, b = (one / one.norm(dim=1, keepdim=True) for one in flat)
    return (a - b).norm(dim=1)


def two_classes(count: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two different classes for each of `count` images, drawn at random: (count,) each."""
    draw = np.random.default_rng(seed)
    pairs = np.stack([draw.choice(classes, 2, replace=False) for _ in range(count)])
    return tuple(torch.from_numpy(pairs.T.copy()))


def most_likely(outputs: Tensor) -> Tensor:
    """The model's choice as numbers: (B, classes), 1 for the largest output, else 0.

    A prediction of which there is only so much to know: its information on the input is its
    entropy, where that of continuous outputs is not finite.
    """
    return F.one_hot(outputs.argmax(1), outputs.shape[1]).to(outputs.dtype)


def entropy(choices: Tensor) -> float:
    """Entropy of classes (n,) int64 by their shares, in nats."""
    shares = torch.bincount(choices).double() / len(choices)
    return float(torch.special.entr(shares).sum())


def linear_reader(signals: Tensor, outputs: Tensor) -> Callable[[Tensor], Tensor]:
    """What tells a model's outputs (n, classes) from signals (n, ...), by least squares.

    It takes signals (m, ...) and gives outputs (m, classes).
    """
    flat = signals.flatten(1).double().numpy()
    found = LinearRegression().fit(flat, outputs.double().numpy())
    return lambda others: torch.from_numpy(found.predict(others.flatten(1).double().numpy()))


def normal_ceiling(error: float, dimensions: int) -> float:
    """What a mean squared error lets a conditional entropy be, at most: nats, per dimension.

    error: E||X - g(Y)||^2, over all dimensions. Of all variables with that error the normal one
    has the largest entropy, so that h(X | g(Y)) <= d / 2 ln(2 pi e error / d); this is divided by
    d. It can be negative. It holds for continuous signals, for which the review of MIP-IN names
    Fano's inequality. Raises ValueError for an error that is not above 0.
    """
    if error <= 0:
        raise ValueError(f"error is {error}; nothing is bounded unless it is above 0")
    return 0.5 * math.log(2 * math.pi * math.e * error / dimensions)


def fano_ceiling(error: float, classes: int) -> float:
    """What a share of wrong guesses lets the entropy of a class be, at most: Fano, in nats.

    H(C | S) <= H(error) + error ln(classes - 1); Cover and Thomas, 2006, chapter 2. Raises
    ValueError for no share, or one class.
    """
    if not 0 <= error <= 1 or classes < 2:
        raise ValueError(f"error {error} of {classes} classes; give a share, and 2 or more classes")
    both = torch.tensor([error, 1 - error], dtype=torch.float64)
    return float(torch.special.entr(both).sum()) + error * math.log(max(1, classes - 1))


def information(a: Tensor, b: Tensor, columns: int = 24, **settings) -> Estimate:
    """What InfoNCE reads of I(a; b) in the leading columns of both, in nats.

    a, b: (n, ...). Each is brought to its first principal components, those that are more than
    rounding, which can only take information away: what bounds theirs from below bounds that of a
    and b. settings: as for `milr.estimators.estimate`.
    """
    pair = (_leading(one.flatten(1).numpy(), columns) for one in (a, b))
    return estimate(*pair, **({"progress": False} | settings))


def pooled(found: Sequence[Estimate]) -> Interval:
    """Mean of estimates of several networks, with a 95 % interval.

    One has 1.96 of its own standard errors to either side. Of two or more the error has their
    spread in it, too, and the interval is Student's.
    """
    values = np.array([one.value for one in found])
    variance = np.mean([one.standard_error**2 for one in found])
    errors = 1.96
    if len(values) > 1:
        variance += values.var(ddof=1)
        errors = stats.t.ppf(0.975, len(values) - 1)
    half = errors * math.sqrt(variance / len(values))
    return Interval(values.mean(), values.mean() - half, values.mean() + half)


def joined(features: Sequence[Tensor]) -> Tensor:
    """Several (n, ...) as one (n, D), their numbers side by side."""
    return torch.cat([one.flatten(1) for one in features], dim=1)


def _leading(values: np.ndarray, columns: int) -> np.ndarray:
    if values.shape[1] <= columns:
        return values
    components = PCA(columns, random_state=0).fit_transform(values)
    # What is made of ten numbers has ten components; the others are rounding, which a critic would
    # see as large as those once columns are brought to one scale. (Not by the variances that PCA
    # tells: those are rounded more.)
    sizes = components.std(0)
    return components[:, sizes > ROUNDING * sizes[0]]
