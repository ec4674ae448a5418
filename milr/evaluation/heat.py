"""Do the largest values of a map lie in a mask? Measures that look at order and thresholds.

Maps (B, H, W) and masks (B, h, w), Boolean or the covered share of each pixel, as in
`localisation`; what lies at the same height counts by its share in the mask, so that a constant map
gets the mask's area and not luck. Signs stay as they are.
"""

import torch
from torch import Tensor

from milr.evaluation.localisation import aligned

QUANTILES = 20


def rank_accuracy(maps: Tensor, masks: Tensor) -> Tensor:
    """(B,) share in the mask of as many largest values as the mask has pixels; NaN without a mask.

    Arras et al., CLEVR-XAI, 2022 ("relevance rank accuracy").
    """
    values, inside = _flat(maps, masks)
    counts = inside.sum(1).round().long()
    found = [
        _share_of_largest(v, m, int(count))
        for v, m, count in zip(values, inside, counts, strict=True)
    ]
    return torch.stack(found)


def effective_heat_ratio(maps: Tensor, masks: Tensor) -> Tensor:
    """(B,) share of a map's positive values in the mask, averaged over thresholds.

    Zhang et al., Fine-Grained Neural Network Explanation, 2021: of the values at or above a
    quantile of the map, the share that lies in the mask, as the area under the curve over the
    quantiles. NaN for a map without a positive value.
    """
    values, inside = _flat(maps.clamp(min=0), masks)
    levels = torch.linspace(0, 1, QUANTILES + 1, dtype=torch.float64)[:-1]
    thresholds = torch.quantile(values, levels, dim=1)
    ratios = []
    for threshold in thresholds:
        above = values * (values >= threshold[:, None])
        ratios.append((above * inside).sum(1) / above.sum(1))
    return torch.stack(ratios).mean(0)


def _share_of_largest(values: Tensor, inside: Tensor, count: int) -> Tensor:
    if count == 0:
        return torch.tensor(torch.nan, dtype=torch.float64)
    last = values.topk(count).values[-1]
    above, level = values > last, values == last
    left = count - above.sum()
    return (inside[above].sum() + left * inside[level].mean()) / count


def _flat(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    maps, masks = aligned(maps, masks)
    return maps.flatten(1), masks.flatten(1)
