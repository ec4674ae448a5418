"""The maps by captum's convention, so that its metrics take them as they are."""

import warnings

from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor

from milr import readings
from milr.explainer import MILR

KINDS = ("total", "decision", "redundant", "capacity")


class InformationMaps(Attribution):
    """A fitted explainer as a captum `Attribution`. Needs captum (`pip install captum`).

    kind: "total", "decision", "redundant" or "capacity"; reading: as for `MILR.explain`. The maps
    explain the representation and the model's own objective, so `attribute` takes no target.
    Raises ValueError for another kind or reading.
    """

    def __init__(self, explainer: MILR, kind: str = "decision", reading: str = "pointwise"):
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
        readings.check(reading)
        super().__init__(explainer.model)
        self.explainer, self.kind, self.reading = explainer, kind, reading

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor],
        target: None = None,
        baselines: None = None,
        additional_forward_args: None = None,
    ):
        """Bits at each number of the input (B, C, H, W), on its device.

        A location's bits are brought to the pixels (bilinear, still in bits per location) and
        shared out equally over the channels, whose sum is the map. A tuple of one tensor, which
        captum's metrics make of it, gives a tuple of one. Warns that what else captum knows is of
        no account. Raises ValueError for inputs that are no images, and for maps of tokens; else as
        `MILR.explain`.
        """
        others = {
            "target": target,
            "baselines": baselines,
            "additional_forward_args": additional_forward_args,
        }
        for name, given in others.items():
            if given is not None:
                warnings.warn(
                    "these maps explain the representation and the objective of the fit, whatever "
                    f"{name} is; leave it out",
                    stacklevel=2,
                )
        if isinstance(inputs, tuple) and len(inputs) == 1:
            return (self.attribute(*inputs),)
        if not isinstance(inputs, Tensor):
            raise ValueError(
                f"inputs are a {type(inputs).__name__}; give one tensor of images (B, C, H, W)"
            )
        if inputs.dim() != 4:
            raise ValueError(f"inputs have shape {tuple(inputs.shape)}; give images (B, C, H, W)")
        maps = self.explainer.explain(inputs.detach(), reading=self.reading)
        maps = maps.resized(tuple(inputs.shape[2:]))
        values = getattr(maps, self.kind)[:, None] / inputs.shape[1]
        return values.expand(inputs.shape).to(inputs.device).contiguous()
