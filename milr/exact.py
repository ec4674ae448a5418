"""Exact information in small systems, and the exact expectation of InfoNCE's forms on them.

A distribution is an array of probabilities (float64) with one axis for each variable; the locations
of a sample come first and its representation last: `joint[x_1, ..., x_N, z]`. All is in nats. This
is what the chapter on the bounds holds the paper's formulas against.
"""

import itertools
import math
from collections.abc import Sequence
from numbers import Integral

import numpy as np
from scipy.special import entr, rel_entr

# What may stand in the denominator for sample j at location n, and its normaliser:
FORMS = (
    "location",  # location n of all K samples; K
    "paper",  # all N K local features (equation 3); N K
    "pooled",  # the own feature, and the other samples' mean over their locations; K
    "own locations dropped",  # the own feature, and the others' N (K - 1); 1 + N (K - 1)
    "positive dropped",  # location n of the other samples alone; K - 1
    "patent unpaired",  # all N K, and no normaliser; 1
    "patent paired",  # all N K, each beside its own sample's z, as the patent prints it; 1
)
LARGEST = 2 * 10**7  # scores that a full enumeration may hold


def entropy(p: np.ndarray) -> float:
    """H in nats of all variables of `p` together.

    p: probabilities, (X_1, ..., X_N, Z) or any other variables, one an axis.
    """
    return float(entr(p).sum())


def information(joint: np.ndarray, a, b, given=()) -> float:
    """I(A; B | C) in nats; a, b, given: the axes of `joint` that make up A, B and C.

    joint: (X_1, ..., X_N, Z), or any variables, one an axis; each of the others is an axis or a
    tuple of them, negative ones counting from the last. Raises ValueError for an axis that `joint`
    lacks, or that is named twice.
    """
    a, b, c = _axes(joint.ndim, a, b, given)
    parts = ((*a, *c), (*b, *c), (*a, *b, *c), c)
    return _inclusion(entropy(marginal(joint, part)) for part in parts)


def total_correlation(joint: np.ndarray, axes: Sequence[int], given=()) -> float:
    """TC(X_1, ..., X_n | C) in nats: the sum of the single entropies less the joint one.

    joint, given, and what is raised: as for `information`; axes: of the variables X_1 to X_n.
    """
    axes, c = _axes(joint.ndim, axes, given)
    single = sum(entropy(marginal(joint, (axis, *c))) for axis in axes)
    whole = entropy(marginal(joint, (*axes, *c)))
    return single - whole - (len(axes) - 1) * entropy(marginal(joint, c))


def marginal(joint: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """The distribution of some variables, in the order that they have in `joint`.

    axes: those of `joint` (X_1, ..., X_N, Z) that stay, in any order. Raises ValueError as
    `information` does.
    """
    (stay,) = _axes(joint.ndim, axes)
    return joint.sum(tuple(set(range(joint.ndim)) - set(stay)))


def log_ratio(table: np.ndarray) -> np.ndarray:
    """log p(x, z) / p(x) p(z) of a table (X, Z): pointwise information, and the best critic.

    -inf where a pair never occurs.
    """
    ratio, apart = np.full(table.shape, -math.inf), np.outer(table.sum(1), table.sum(0))
    occurs = table > 0
    ratio[occurs] = np.log(table[occurs] / apart[occurs])
    return ratio


def best_critics(joint: np.ndarray) -> list[np.ndarray]:
    """`log_ratio` of each location with z: a table (X_n, Z) for each of the N locations."""
    last = joint.ndim - 1
    return [log_ratio(marginal(joint, (n, last))) for n in range(last)]


def mean_divergence(weights: np.ndarray, rows: np.ndarray, q: np.ndarray) -> float:
    """sum_x weights[x] KL(rows[x] || q) in nats: right side of equation 8.

    weights: (X,); rows: (X, Z); q: (Z,).
    """
    return float(weights @ rel_entr(rows, q).sum(1))


def symmetric_channel(flip: float, symbols: int = 2) -> np.ndarray:
    """p(output | input), (symbols, symbols): another symbol with probability `flip`."""
    others = np.full((symbols, symbols), flip / (symbols - 1))
    np.fill_diagonal(others, 1 - flip)
    return others


def erasure_channel(loss: float, symbols: int = 2) -> np.ndarray:
    """p(output | input), (symbols, symbols + 1): the last output says that the input was lost."""
    kept = (1 - loss) * np.eye(symbols)
    return np.concatenate([kept, np.full((symbols, 1), loss)], axis=1)


def function_channel(values: np.ndarray) -> np.ndarray:
    """A function as a channel: symbol s becomes `values[s]`; equal values are one output.

    values: (symbols,). Returns (symbols, distinct values), the outputs in the order of the values.
    """
    distinct, place = np.unique(values, return_inverse=True)
    return np.eye(len(distinct))[place]


def through(joint: np.ndarray, axis: int, channel: np.ndarray) -> np.ndarray:
    """The distribution after the variable at `axis` went through `channel` (inputs, outputs)."""
    return np.moveaxis(np.tensordot(joint, channel, (axis, 0)), -1, axis)


def observed(prior: np.ndarray, channels: Sequence[np.ndarray]) -> np.ndarray:
    """`joint[x_1, ..., x_N, z]` of locations that see z independently, each by its channel.

    prior: (Z,), of z; channels: for each location p(x_n | z), (Z, X_n).
    """
    joint = prior
    for channel in reversed(channels):
        joint = channel.T.reshape(channel.shape[1], *(1,) * (joint.ndim - 1), -1) * joint
    return joint


def toy_systems() -> dict[str, np.ndarray]:
    """Small systems `joint[x_1, x_2, z]` in which local and joint information differ.

    Name -> (2, 2, Z), for bits x_1 and x_2 and a z that they determine.
    """
    a, b = np.indices((2, 2))
    rules = {"both bits": 2 * a + b, "XOR": a ^ b, "AND": a & b, "sum": a + b}
    systems = {}
    for name, z in rules.items():
        systems[name] = np.eye(z.max() + 1)[z] / 4
    copy = np.zeros((2, 2, 2))
    copy[0, 0, 0] = copy[1, 1, 1] = 0.5
    return {"both bits": systems.pop("both bits"), "copies": copy, **systems}


def gaussian_sum(inputs: int = 2) -> np.ndarray:
    """Covariance of (x_1, ..., x_n, z), z the sum of standard normal inputs and as much noise.

    (inputs + 1, inputs + 1); the noise of z is standard normal as each of the inputs is.
    """
    mixing = np.eye(inputs + 1)
    mixing[-1] = 1
    return mixing @ mixing.T


def gaussian_information(covariance: np.ndarray, a, b, given=()) -> float:
    """I(A; B | C) in nats of jointly normal variables; a, b, given: their places.

    covariance: (n, n), of all variables; a place, or a tuple of them, is a row of it. Raises
    ValueError as `information` does.
    """
    a, b, c = _axes(len(covariance), a, b, given)
    parts = ((*a, *c), (*b, *c), (*a, *b, *c), c)
    return _inclusion(_log_det(covariance, part) / 2 for part in parts)


def gaussian_total_correlation(covariance: np.ndarray, axes: Sequence[int], given=()) -> float:
    """TC(X_1, ..., X_n | C) in nats of jointly normal variables.

    covariance, given, and what is raised: as for `gaussian_information`; axes: the places of X_1
    to X_n.
    """
    axes, c = _axes(len(covariance), axes, given)
    single = sum(_log_det(covariance, (axis, *c)) for axis in axes)
    whole = _log_det(covariance, (*axes, *c)) + (len(axes) - 1) * _log_det(covariance, c)
    return (single - whole) / 2


def gaussian_divergence(mean, std, other_mean, other_std):
    """KL(N(mean, std^2) || N(other_mean, other_std^2)) in nats, element by element.

    All are numbers or arrays that broadcast to one shape, which the result has.
    """
    ratio, shift = (std / other_std) ** 2, (mean - other_mean) / other_std
    return (ratio + shift**2 - 1 - np.log(ratio)) / 2


def capacity(r, keep):
    """KL in nats of the noise channel's output given x from its noise, for r = (x - mean) / std.

    keep: in [0, 1). `milr.bottleneck.capacity` in numpy, and without its clipping.
    """
    return gaussian_divergence(keep * r, 1 - keep, 0.0, 1.0)


def mixture_information(joint: np.ndarray, means, deviations, points: int = 32) -> float:
    """I(x'; z) in nats for x' ~ N(means[c], deviations[c]^2) and `joint[c, z]`, by quadrature.

    joint: (C, Z); means, deviations: (C,). points: of each piece, of which there are 24 for a
    component, each as wide as its deviation, so that none is too narrow to be seen.
    """
    means, deviations = np.asarray(means, float), np.asarray(deviations, float)
    ends = np.unique(means + deviations * np.arange(-12, 13)[:, None])
    nodes, weights = np.polynomial.legendre.leggauss(points)
    half = np.diff(ends)[:, None] / 2
    grid = (ends[:-1, None] + half * (1 + nodes)).reshape(-1, 1)
    parts = np.exp(-(((grid - means) / deviations) ** 2) / 2) / (deviations * math.sqrt(2 * np.pi))
    pairs = parts @ joint  # density of x' together with the probability of z
    density = pairs.sum(1)
    posterior = pairs / np.where(density > 0, density, 1)[:, None]
    return float((half * weights).ravel() @ (density * rel_entr(posterior, joint.sum(0)).sum(1)))


def batch_value(scores: np.ndarray, form: str = "location") -> np.ndarray:
    """A form's value for each location in batches that are given by their scores.

    scores: (..., K, N, K), entry [m, n, j] is f(x_n^m, z^j). Returns (..., N) in nats, the mean
    over the K samples. Raises ValueError for a form that is not one of FORMS.
    """
    k, n = scores.shape[-1], scores.shape[-2]
    own = np.einsum("...jnj->...nj", scores)
    mine, column = np.exp(own), np.exp(scores).sum(-3)  # (..., N, K): location, sample of z
    all_mine, everything = mine.sum(-2, keepdims=True), column.sum(-2, keepdims=True)
    denominator, normaliser = {
        "location": (column, k),
        "paper": (everything, n * k),
        "pooled": (mine + (everything - all_mine) / n, k),
        "own locations dropped": (mine + everything - all_mine, 1 + n * (k - 1)),
        "positive dropped": (column - mine, k - 1),
        "patent unpaired": (everything, 1),
        "patent paired": (all_mine.sum(-1, keepdims=True), 1),
    }[_known(form)]
    return (own - np.log(denominator / normaliser)).mean(-1)


def enumerate_batches(
    joint: np.ndarray, critics: Sequence[np.ndarray], k: int, form: str = "location"
) -> np.ndarray:
    """A form's expectation for each location, summed over every batch of k samples there is.

    joint: (X_1, ..., X_N, Z); critics: for each location a table f of shape (X_n, Z).
    Returns (N,) in nats. Raises ValueError where there are too many batches to go through, and for
    a form that is not one of FORMS.
    """
    support = np.argwhere(joint > 0)
    samples, n = len(support), joint.ndim - 1
    if samples**k * k * k * n > LARGEST:
        raise ValueError(
            f"{samples} outcomes make {samples}^{k} batches of {k}, too many to go through; "
            "take a smaller k, or `expectation`, which needs one integral"
        )
    batches = np.array(list(itertools.product(range(samples), repeat=k)))  # (B, K)
    x, z = support[batches][..., :-1], support[batches][..., -1]
    scores = np.stack(
        [table[x[..., i][:, :, None], z[:, None, :]] for i, table in enumerate(critics)], axis=2
    )
    weights = joint[tuple(support.T)][batches].prod(1)
    return weights @ batch_value(scores, form)


def expectation(
    joint: np.ndarray, critics: Sequence[np.ndarray], k: int, form: str = "location"
) -> np.ndarray:
    """What `enumerate_batches` gives, for any k: by one integral for each own feature and z.

    joint: (X_1, ..., X_N, Z); critics: for each location a table f of shape (X_n, Z). Returns (N,)
    in nats. Raises ValueError for a form that is not one of FORMS. Entries are inf where the
    denominator can be 0.
    """
    x = np.argwhere(marginal(joint, range(joint.ndim - 1)) > 0)  # (S, N)
    p = joint[tuple(x.T)]  # (S, Z)
    f = np.stack([table[x[:, i]] for i, table in enumerate(critics)])  # (N, S, Z)
    values = np.zeros(len(f))
    for z in np.flatnonzero(p.sum(0)):
        own, pool, weights, normaliser = _parts(np.exp(f), p, z, k, _known(form))
        occurring = p[:, z] > 0
        for i in range(len(f)):
            logs = mean_log_sum(own[i][occurring], pool[i], weights, k) - math.log(normaliser)
            values[i] += p[occurring, z] @ (f[i, occurring, z] - logs)
    return values


def mean_log_sum(own, values, probabilities, k: int):
    """E log(own + v_1 + ... + v_(k-1)) in nats, the v independent draws from `values`, for any k.

    log y is the integral over t > 0 of (exp -t - exp -ty) / t, and the mean of exp -ty is a product
    of k - 1 equal factors (see the chapter). In log t the trapezoidal rule is exact to rounding.
    own: (A,) or a number, at least 0; values: (V,), at least 0; probabilities: (V,). Returns the
    same shape as own; -inf where all can be 0.
    """
    values, place = np.unique(values, return_inverse=True)
    probabilities = np.bincount(place, probabilities)
    values, probabilities = values[probabilities > 0], probabilities[probabilities > 0]
    distinct, back = np.unique(np.atleast_1d(own), return_inverse=True)
    logs = [_mean_log_sum(one, values, probabilities, k) for one in distinct]
    return np.reshape(np.array(logs)[back], np.shape(own))


def _mean_log_sum(own: float, values: np.ndarray, probabilities: np.ndarray, k: int) -> float:
    least, most = (own + (k - 1) * end for end in (values.min(), values.max()))
    if least == 0:
        return -math.inf
    step = 0.25  # the error falls like exp(-pi^2 / step)
    s = np.arange(-40 - math.log(most / least), 5, step)
    t = np.exp(s)
    factor = np.exp(-np.outer(t, values / least)) @ probabilities
    integrand = np.exp(-t) - np.exp(-t * own / least) * factor ** (k - 1)
    return math.log(least) + step * float(integrand.sum())


def _parts(h: np.ndarray, p: np.ndarray, z: int, k: int, form: str) -> tuple:
    """What the own sample and each other one add to the denominators: (N, S), (N, S), p, norm."""
    n, at = len(h), h[:, :, z]
    total, x_alone = np.broadcast_to(at.sum(0), at.shape), p.sum(1)
    if form == "patent paired":
        pairs = np.broadcast_to(h.sum(0).ravel(), (n, p.size))
        return total, pairs, p.ravel(), 1
    own, pool, normaliser = {
        "location": (at, at, k),
        "paper": (total, total, n * k),
        "pooled": (at, total / n, k),
        "own locations dropped": (at, total, 1 + n * (k - 1)),
        "positive dropped": (0 * at, at, k - 1),
        "patent unpaired": (total, total, 1),
    }[form]
    return own, pool, x_alone, normaliser


def _inclusion(entropies) -> float:
    """I(A; B | C) from the entropies of AC, BC, ABC and C."""
    ac, bc, abc, c = entropies
    return ac + bc - abc - c


def _known(form: str) -> str:
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; it must be one of {', '.join(FORMS)}")
    return form


def _axes(count: int, *groups) -> list[tuple[int, ...]]:
    """Each group of axes as a tuple of them, counted from 0."""
    groups = [(axes,) if isinstance(axes, Integral) else tuple(axes) for axes in groups]
    for axis in itertools.chain(*groups):
        if not isinstance(axis, Integral) or not -count <= axis < count:
            raise ValueError(
                f"axis is {axis!r}, and there are {count} variables; give a whole number from "
                f"{-count} to {count - 1}"
            )
    groups = [tuple(int(axis) % count for axis in axes) for axes in groups]
    named = list(itertools.chain(*groups))
    if len(set(named)) < len(named):
        raise ValueError(
            f"the axes are {', '.join(map(str, named))}, counted from 0; name each but once"
        )
    return groups


def _log_det(covariance: np.ndarray, axes) -> float:
    places = sorted(axes)
    return float(np.linalg.slogdet(covariance[np.ix_(places, places)])[1])
