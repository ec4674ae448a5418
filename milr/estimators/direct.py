"""Methods without training: nearest neighbours, and the normal with the same correlations."""

import math

import numpy as np
import torch
from numpy import ndarray
from scipy.spatial import cKDTree
from scipy.special import digamma

# Above as many dimensions (of both sides) a tree looks at nearly all samples, and looking at all is
# quicker.
TREE = 8
BLOCK = 256
# A canonical correlation of 1 would be infinite information.
CLOSEST = 1 - 1e-12
# Neighbours are as far where their distances differ by no more than this share, for float32's sake;
# chance makes a few such, and more than this share of the samples is no chance.
SAME = 1e-6
TIED = 0.05


def ksg(x: ndarray, z: ndarray, neighbours: int = 3) -> tuple[float, float]:
    """Value and standard error of Kraskov, Stoegbauer and Grassberger (2004), equation 8.

    x, z: (n, dx) and (n, dz), without a constant column; nats.
    psi(k) + psi(n) - mean(psi(n_x + 1) + psi(n_z + 1)), n_x and n_z being how many samples lie
    nearer in x (in z) alone than the k-th neighbour in both, by the largest coordinate. The error
    takes the terms as independent, which neighbours' terms are not quite.
    Raises ValueError where the k-th neighbour of many samples is not the only one at its distance:
    the counts then mean nothing, and the value may lie anywhere (rounded values, those that a ReLU
    cut, copies).
    """
    # Centred, so that float32 does not round an offset's differences away.
    x, z = ((values - values.mean(0)) / values.std(0) for values in (x, z))
    search = _by_tree if x.shape[1] + z.shape[1] <= TREE else _by_all
    near_x, near_z, tied = search(x, z, neighbours)
    _check_ties(float(tied.mean()), neighbours)
    terms = digamma(neighbours) + digamma(len(x)) - digamma(near_x + 1) - digamma(near_z + 1)
    return float(terms.mean()), float(terms.std(ddof=1)) / math.sqrt(len(x))


def gaussian(x: ndarray, z: ndarray) -> tuple[float, float]:
    """The information of a normal with the samples' correlations, -sum log(1 - rho_i^2) / 2.

    x, z: (n, dx) and (n, dz). Gives value and standard error, in nats.
    rho_i: canonical correlations, the singular values of what links the whitened sides. Chance
    correlations make that too large (about dx dz / 2n); what a normal of no correlation would give
    in expectation, from the moments of Wishart determinants, is taken off. The error is that of the
    normal's log-ratio at the samples, which is the value's influence function.
    Raises ValueError unless there are more samples than dimensions of both sides together, and for
    a combination of columns of one that is one of the other, where it would be infinite.
    """
    u, v = _white(x), _white(z)
    left, rho, right = np.linalg.svd(u.T @ v, full_matrices=False)
    # Without enough samples every side has a combination of the other; that is refused below.
    if rho[0] > CLOSEST and u.shape[1] + v.shape[1] < len(x):
        raise ValueError(
            "a combination of columns of x is one of z, up to rounding, and then the information "
            "of a normal is infinite; leave out what both sides hold"
        )
    rho = np.minimum(rho, CLOSEST)
    value = -0.5 * np.log1p(-(rho**2)).sum() - _by_chance(u.shape[1], v.shape[1], len(x))
    a, b = u @ left * math.sqrt(len(x)), v @ right.T * math.sqrt(len(x))
    square = (a**2 - 2 * rho * a * b + b**2) / (1 - rho**2) - a**2 - b**2
    return float(value), float((-0.5 * square.sum(1)).std(ddof=1)) / math.sqrt(len(x))


def _white(values: ndarray) -> ndarray:
    """Orthonormal columns that span the centred ones; directions of no variance are left out."""
    left, sizes, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    return left[:, sizes > 1e-10 * sizes[0]]


def _by_chance(dx: int, dz: int, n: int) -> float:
    """Expectation of the plug-in value for normals of no correlation."""

    def log_determinant(d: int) -> float:
        return float(digamma((n - 1 - np.arange(d)) / 2).sum())

    if dx + dz >= n:
        raise ValueError(
            f"{n} samples of {dx} + {dz} dimensions; 'gaussian' needs more samples than dimensions"
        )
    return 0.5 * (log_determinant(dx) + log_determinant(dz) - log_determinant(dx + dz))


def _check_ties(share: float, neighbours: int) -> None:
    if share > TIED:
        raise ValueError(
            f"{share:.0%} of the samples have several others exactly as far as neighbour "
            f"{neighbours}; at most {TIED:.0%} may, since 'ksg' is for continuous values. Leave "
            "out copies of rows and columns. To values that were rounded to steps of w add noise "
            "as wide, x + g.uniform(-w / 2, w / 2, x.shape), and so to z, with one "
            "g = np.random.default_rng(1) for both; to those that a ReLU cut, noise much narrower "
            "than their spread. For symbols use a critic (infonce)"
        )


def _by_tree(x: ndarray, z: ndarray, neighbours: int) -> tuple[ndarray, ndarray, ndarray]:
    both = np.concatenate([x, z], axis=1)
    # Of itself, the neighbours, and the next, which is infinitely far if there is none.
    found = cKDTree(both).query(both, neighbours + 2, p=np.inf)[0]
    reach, following = found[:, -2], found[:, -1]
    inside = np.nextafter(reach, 0)
    near = (
        cKDTree(side).query_ball_point(side, inside, p=np.inf, return_length=True) - 1
        for side in (x, z)
    )
    return *near, (reach == 0) | (following <= reach * (1 + SAME))


def _by_all(x: ndarray, z: ndarray, neighbours: int) -> tuple[ndarray, ndarray, ndarray]:
    x, z = (torch.from_numpy(side.astype(np.float32)) for side in (x, z))
    found = []
    for i in range(0, len(x), BLOCK):
        far_x = torch.cdist(x[i : i + BLOCK], x, p=math.inf)
        far_z = torch.cdist(z[i : i + BLOCK], z, p=math.inf)
        far = torch.maximum(far_x, far_z)
        reach = far.kthvalue(neighbours + 1, dim=1, keepdim=True).values
        near = [((side < reach).sum(1) - 1).clamp(min=0) for side in (far_x, far_z)]
        more = (far <= reach * (1 + SAME)).sum(1) > neighbours + 1
        found.append((*near, more | (reach[:, 0] == 0)))
    return tuple(torch.cat(part).numpy() for part in zip(*found, strict=True))
