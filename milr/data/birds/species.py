"""Which birds there are: parts, attributes, species, worlds and their splits."""

import itertools
import random
from dataclasses import dataclass
from functools import cache

# Painted in this order, so that of two parts the later one lies in front (some leaves excepted).
PARTS = (
    "background",
    "branch",
    "leaves",
    "tail",
    "legs",
    "belly",
    "back",
    "breast",
    "wing",
    "wing bar",
    "head",
    "head marking",
    "eye",
    "beak",
)

# What makes a species in the world "all"; the parts outside it vary freely within a species.
DEFINING = ("beak", "head marking", "breast", "wing bar")

# attribute -> (part, values)
ATTRIBUTES = {
    "beak shape": ("beak", ("cone", "dagger", "hook", "sickle")),
    "beak colour": ("beak", ("yellow", "red", "black", "white")),
    "beak pattern": ("beak", ("plain", "tipped", "two-toned", "ringed")),
    "head marking shape": ("head marking", ("cap", "mask", "nape", "cheek")),
    "head marking colour": ("head marking", ("black", "white", "red", "yellow")),
    "head marking pattern": ("head marking", ("plain", "two-toned", "striped", "spotted")),
    "breast shape": ("breast", ("bib", "spot", "band", "flank")),
    "breast colour": ("breast", ("red", "yellow", "blue", "black")),
    "breast pattern": ("breast", ("plain", "spotted", "streaked", "barred")),
    "wing bar shape": ("wing bar", ("band", "double", "panel", "edge")),
    "wing bar colour": ("wing bar", ("white", "yellow", "red", "blue")),
    "wing bar pattern": ("wing bar", ("plain", "two-toned", "striped", "spotted")),
    "tail shape": ("tail", ("square", "forked", "pointed", "fanned")),
    "tail colour": ("tail", ("rust", "black", "blue", "white")),
    "tail pattern": ("tail", ("plain", "tipped", "barred", "edged")),
}

# world -> (parts that define its species, flocks of four in train, validation and novel).
# A part has 4 x 4 x 4 = 64 looks, so a world with one defining part has at most 16 flocks.
WORLDS = {
    "all": (DEFINING, (24, 6, 6)),
    "beak": (("beak",), (10, 3, 3)),
    "tail": (("tail",), (10, 3, 3)),
    "breast": (("breast",), (10, 3, 3)),
}
SPLITS = ("train", "validation", "novel")
VALUES = 4  # of every attribute
DISTANCE = 3  # attributes in which any two species of the world "all" differ, at least
SYLLABLES = tuple(c + v for c in "lmnr" for v in "aiou")


def attributes_of(part: str) -> tuple[str, ...]:
    """Names of the attributes of a part; none if it varies freely in every world."""
    return tuple(name for name, (owner, _) in ATTRIBUTES.items() if owner == part)


@dataclass(frozen=True)
class Species:
    """A combination of attribute values: `codes[i]` indexes the values of the world's i-th one.

    Raises ValueError for an unknown world, and for codes that name no species of it.
    """

    world: str
    codes: tuple[int, ...]

    def __post_init__(self):
        check("world", self.world, WORLDS)
        names = world_attributes(self.world)
        if len(self.codes) != len(names) or not all(c in range(VALUES) for c in self.codes):
            raise ValueError(
                f"codes {self.codes} name no species of the world {self.world!r}: give "
                f"{len(names)} whole numbers from 0 to {VALUES - 1}, for {', '.join(names)}"
            )
        # Seeds of pictures are made of how they are written, and numpy's are written otherwise.
        object.__setattr__(self, "codes", tuple(map(int, self.codes)))

    @classmethod
    def of(cls, world: str = "all", **values: str) -> "Species":
        """The species with these values, e.g. of("beak", beak_shape="hook", ...).

        Attributes that are not given have their first value.
        Raises ValueError for an unknown world, attribute or value.
        """
        check("world", world, WORLDS)
        names = world_attributes(world)
        given = {name.replace("_", " "): value for name, value in values.items()}
        for name, value in given.items():
            check(f"attribute of the world {world!r}", name, names)
            check(name, value, ATTRIBUTES[name][1])
        firsts = {name: ATTRIBUTES[name][1][0] for name in names}
        chosen = firsts | given
        return cls(world, tuple(ATTRIBUTES[name][1].index(chosen[name]) for name in names))

    @property
    def defining(self) -> tuple[str, ...]:
        """The parts that tell species of this world apart."""
        return WORLDS[self.world][0]

    @property
    def values(self) -> dict[str, str]:
        """attribute -> value, for the attributes that define species of this world."""
        names = world_attributes(self.world)
        return {n: ATTRIBUTES[n][1][c] for n, c in zip(names, self.codes, strict=True)}

    @property
    def name(self) -> str:
        """A Latin-looking name, different for every combination of values.

        Two attributes make a syllable; beak and head make the first word, breast and wing the
        second, so that species of one "genus" have the same beak and the same head marking.
        """
        padded = (*self.codes, *([0] * (len(self.codes) % 2)))
        sounds = [SYLLABLES[VALUES * padded[i] + padded[i + 1]] for i in range(0, len(padded), 2)]
        if self.world != "all":
            return f"{self.world} {''.join(sounds)}s"
        return f"{''.join(sounds[:3])}s {''.join(sounds[3:])}".capitalize()

    @property
    def description(self) -> str:
        """What to look for, in words: "yellow cone beak, tipped; black cap, plain; ..."."""
        return "; ".join(self._describe(part) for part in self.defining)

    def _describe(self, part):
        shape, colour, pattern = (self.values[name] for name in attributes_of(part))
        finish = "" if pattern == "plain" else f", {pattern}"
        noun = {"head marking": "on the head"}.get(part, part)
        return f"{colour} {shape} {noun}{finish}"

    def distance(self, other: "Species") -> int:
        """Number of attributes in which two species of one world differ."""
        return sum(a != b for a, b in zip(self.codes, other.codes, strict=True))


def world_attributes(world: str) -> tuple[str, ...]:
    """Names of the attributes that define the species of a world, in the order of the codes."""
    return tuple(name for part in WORLDS[world][0] for name in attributes_of(part))


def splits(world: str = "all") -> dict[str, list[Species]]:
    """The species of a world, disjoint in "train", "validation" and "novel".

    Species come in flocks of four: the next one of a flock has the next value of every attribute.
    So each flock has each value of each attribute once, and the attributes' marginals are equal
    in all splits, whichever flocks these have. In the world "all" any two species differ in at
    least three attributes.
    Raises ValueError for an unknown world.
    """
    check("world", world, WORLDS)
    flocks = iter(_flocks(world))
    sizes = WORLDS[world][1]
    return {
        split: [species for flock in itertools.islice(flocks, size) for species in flock]
        for split, size in zip(SPLITS, sizes, strict=True)
    }


@cache
def _flocks(world):
    """As many flocks as the world's splits need, drawn at random and kept if far enough apart."""
    draw = random.Random(f"birds of the world {world}")
    length, wanted = len(world_attributes(world)), sum(WORLDS[world][1])
    distance = DISTANCE if world == "all" else 1
    flocks: list[tuple[Species, ...]] = []
    while len(flocks) < wanted:
        start = [draw.randrange(VALUES) for _ in range(length)]
        flock = tuple(
            Species(world, tuple((code + step) % VALUES for code in start))
            for step in range(VALUES)
        )
        # Shifting both shifts neither's distances: the first one speaks for its flock.
        if all(flock[0].distance(other) >= distance for kept in flocks for other in kept):
            flocks.append(flock)
    return tuple(flocks)


def congeners(species: Species, n: int, seed: int = 0) -> list[Species]:
    """n different species, each exactly one attribute apart from the given one.

    They need not belong to any split. Raises ValueError if there are fewer than n.
    """
    near = [
        Species(species.world, (*species.codes[:i], code, *species.codes[i + 1 :]))
        for i, own in enumerate(species.codes)
        for code in range(VALUES)
        if code != own
    ]
    if not 0 <= n <= len(near):
        raise ValueError(f"n={n} congeners of {species.name} were asked; it has {len(near)}")
    return random.Random(f"{species.name} {seed}").sample(near, n)


def check(what: str, given, allowed) -> None:
    """Raises ValueError unless the given thing is one of those allowed; `what` names it."""
    if given not in allowed:
        raise ValueError(f"unknown {what} {given!r}; allowed: {', '.join(map(str, allowed))}")
