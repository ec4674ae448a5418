"""What an estimate is, and which methods there are."""

from dataclasses import dataclass, field

LOWER, UPPER, NEITHER = "lower bound", "upper bound", "neither"

# What each method reads, and what has to be trained for it ("" for nothing).
TRAINED = {
    "infonce": "location",
    "infonce-paper": "paper",
    "infonce-pooled": "pooled",
    "mine": "mine",
    "nwj": "nwj",
    "jsd": "jsd",
    "smile": "jsd",
    "club": "conditional",
    "club-full": "conditional",
    "leave-one-out": "conditional",
    "vib": "conditional",
    "ksg": "",
    "gaussian": "",
}
METHODS = tuple(TRAINED)

# Of samples that the critic has not seen; the docstring of `milr.estimators` says why.
KINDS = dict.fromkeys(METHODS, NEITHER) | {
    "infonce": LOWER,
    "infonce-paper": LOWER,
    "infonce-pooled": LOWER,
    "nwj": LOWER,
}


@dataclass(frozen=True)
class Estimate:
    """An estimate of mutual information, in nats.

    standard_error: of `value`, over the samples it was read from; it knows nothing of how another
    critic would have turned out.
    kind: "lower bound", "upper bound" (both in expectation over samples) or "neither".
    trace: how it came about: "step", "train" and "validation" (the curves, nats), "critic",
    "samples" that the value was read from, "seconds"; for a feature map "locations", the values
    (N,) of each.
    """

    value: float
    standard_error: float
    kind: str
    trace: dict = field(default_factory=dict, repr=False)
