"""A mask for these very samples: a few steps of their own, from the one that was inferred.

The inference network sees the images alone. Where the labels or the episode are known, the mask can
be fitted to them, as the Per-Sample bottleneck does (Schulz et al., Restricting the Flow, 2020),
from a start that has seen the image. The objective is that of `fitting`: equation 7 of the paper
with the capacity as the price.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from milr.feeding import computed_once, differentiable, others_than

# Sigmoids that are further out than this hardly move within a few steps.
FARTHEST = 6.0


def refined_keep(
    explainer,
    features,
    inserted,
    batch,
    images: Tensor,
    objective: Callable,
    steps: int,
    draws: int,
    learning_rate: float,
) -> Tensor:
    """The share kept, (B, N, C), after so many steps on the objective of this batch plus its price.

    explainer: a fitted `MILR` whose model is frozen; inserted: its modules; features: of the
    images (B, ...), as `MILR.features` gives them; batch: what the objective is called with. Each
    step averages the objective over `draws` of the noise, and adds the explainer's beta times the
    mean capacity per element, in nats. What keeps or stops nearly all begins a little less sure
    (`FARTHEST`), or no step would move it: of an open mask the capacity falls with the first.
    Raises ValueError for an objective without a gradient, a local layer under activation
    checkpointing, and features of other locations or widths than at `fit`.
    """
    keep = explainer.keep_of(features, inserted)
    if not steps:
        return keep
    logits = keep.logit().clamp(-FARTHEST, FARTHEST).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=learning_rate)
    generator = explainer.generator("refine")
    for step in range(steps):
        keep = logits.sigmoid()
        loss = explainer.beta * inserted.capacity(features.local, keep).mean()
        for _ in range(draws):
            # The same for all, so that a mask does not depend on how many stand beside it.
            shape = 1, *keep.shape[1:]
            noise = torch.randn(shape, generator=generator, dtype=torch.float32).to(keep.device)
            passed = inserted.inject(features.local, keep, noise)
            wanted = differentiable(objective(explainer.run_with(images, passed), batch))
            if step == 0:
                others_than([logits], wanted)
            loss = loss + wanted / draws
        if not loss.isfinite():
            raise ValueError(
                f"the loss became {loss.item()}; check the images and labels of the batch, or "
                "lower learning_rate"
            )
        with torch.autocast(loss.device.type, enabled=False), computed_once():
            # Of the sum: gradients of a mean over many are lost beside the epsilon of Adam.
            (logits.grad,) = torch.autograd.grad(logits.numel() * loss, logits)
        optimizer.step()
    return logits.detach().sigmoid()
