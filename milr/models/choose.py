"""Choose a setting of the training by the accuracy on validation classes.

    python -m milr.models.choose metric cosine euclidean --data birds --steps 600

The novel classes, on which results are reported, play no part in it.
"""

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace

from torch import Tensor

from milr.data.images import ImageSet
from milr.models.prototypical import evaluate
from milr.models.settings import Training, load_sets
from milr.models.train import parse, train


def compare(
    settings: Training,
    name: str,
    values: Sequence,
    sets: dict[str, ImageSet] | None = None,
    episodes: int = 600,
) -> dict[object, Tensor]:
    """Train with each value of the setting `name`; value -> accuracies on validation classes.

    The accuracies, (episodes,) between 0 and 1, are of the same 5-way 1-shot episodes for each
    value, so that they can be compared in pairs. `sets` as for `train`.

    Raises ValueError for a setting that does not exist.
    """
    known = [field.name for field in fields(Training)]
    if name not in known:
        raise ValueError(f"no setting {name!r}; give one of {', '.join(known)}")
    found = {}
    for value in values:
        changed = replace(settings, **{name: value})
        model, _ = train(changed, sets)
        images = sets or load_sets(changed, ("validation",))
        found[value] = evaluate(model, images["validation"], episodes=episodes)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Print the accuracy for each value, and how far each differs from the best."""
    parser = argparse.ArgumentParser("milr.models.choose", description=main.__doc__)
    parser.add_argument("name", help="a setting, such as metric")
    parser.add_argument("values", nargs="+")
    chosen, rest = parser.parse_known_args(arguments)
    settings = parse(rest)
    default = getattr(settings, chosen.name)
    kind = str if default is None else type(default)
    found = compare(settings, chosen.name, [kind(value) for value in chosen.values])
    best = max(found, key=lambda value: found[value].mean())
    for value, accuracies in found.items():
        difference = accuracies - found[best]
        error = 196 * float(difference.std()) / len(difference) ** 0.5
        print(
            f"{chosen.name} {value}: {100 * accuracies.mean():.1f} %, "
            f"{100 * difference.mean():+.1f} +- {error:.1f} from the best"
        )


if __name__ == "__main__":
    main()
