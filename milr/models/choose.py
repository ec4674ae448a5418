"""Choose a setting of a training, or of an explainer, by validation classes.

    python -m milr.models.choose metric cosine euclidean --data birds --steps 600
    python -m milr.models.choose --explainer beta 1 2 4 --network-data cub --steps 500

The novel classes, on which results are reported, play no part in it.
"""

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import islice

from torch import Tensor

from milr.data.episodes import stream
from milr.data.images import ImageSet, normalise
from milr.models import explainers
from milr.models.explainers import Explaining, explain
from milr.models.prototypical import accuracies, embed, evaluate
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
    _check(Training, name)
    found = {}
    for value in values:
        changed = replace(settings, **{name: value})
        model, _ = train(changed, sets)
        images = sets or load_sets(changed, ("validation",))
        found[value] = evaluate(model, images["validation"], episodes=episodes)
    return found


def compare_lost(
    settings: Explaining,
    name: str,
    values: Sequence,
    sets: dict[str, ImageSet] | None = None,
    episodes: int = 600,
) -> dict[object, Tensor]:
    """Fit an explainer with each value of its setting `name`; value -> what the decision loses.

    (episodes,) accuracy on validation classes as it is, minus that with only what the bottleneck
    passes, in the same 5-way 1-shot episodes for each value. The critics hardly learn, since no map
    is asked for. `sets` as for `explain`.

    Raises ValueError for a setting that does not exist.
    """
    _check(Explaining, name)
    sets = sets or load_sets(settings.training, ("train", "validation"))
    images = sets["validation"]
    drawn = list(islice(stream(images.targets, 5, 1, 15, 0), episodes))
    found = {}
    for value in values:
        brief = {"critic_steps": 1, "critic_batches": 1}
        model, explainer = explain(replace(settings, **brief | {name: value}), sets)
        clean = accuracies(model, embed(model, images.images), drawn)
        passed = accuracies(model, explainer.through(normalise(images.images)), drawn)
        found[value] = clean - passed
    return found


def main(arguments: list[str] | None = None) -> None:
    """Print the accuracy for each value, and how far each differs from the best; of an explainer,
    the accuracy lost in its bottleneck. Other settings: as the module of the training, or of the
    explainers, takes them."""
    parser = argparse.ArgumentParser("milr.models.choose", description=main.__doc__)
    parser.add_argument("--explainer", action="store_true", help="a setting of the explainer")
    parser.add_argument("name", help="a setting, such as metric")
    parser.add_argument("values", nargs="+")
    chosen, rest = parser.parse_known_args(arguments)
    settings = (explainers.parse if chosen.explainer else parse)(rest)
    try:
        _check(type(settings), chosen.name)
        default = getattr(settings, chosen.name)
        if not isinstance(default, int | float | str | None):
            parser.error(f"{chosen.name} is neither a number nor a word; set it in Python")
        values = [(str if default is None else type(default))(value) for value in chosen.values]
    except ValueError as error:
        parser.error(str(error))
    if chosen.explainer:
        for value, lost in compare_lost(settings, chosen.name, values).items():
            print(f"{chosen.name} {value}: {_points(lost)} points of accuracy lost")
        return
    found = compare(settings, chosen.name, values)
    best = max(found, key=lambda value: found[value].mean())
    for value, accuracy in found.items():
        away = f"{_points(accuracy - found[best])} from the best"
        print(f"{chosen.name} {value}: {100 * accuracy.mean():.1f} %, {away}")


def _check(kind: type, name: str) -> None:
    known = [field.name for field in fields(kind)]
    if name not in known:
        raise ValueError(f"no setting {name!r}; give one of {', '.join(known)}")


def _points(values: Tensor) -> str:
    """Mean in per cent, with its 95 % interval."""
    error = 196 * float(values.std()) / len(values) ** 0.5
    return f"{100 * values.mean():+.1f} +- {error:.1f}"


if __name__ == "__main__":
    main()
