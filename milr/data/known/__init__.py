"""Tasks with known truth, on which estimators of mutual information are tried.

Each has its information in closed form or by quadrature, in nats. The families follow the ideas of
Czyz et al. (2023): an estimator should give the same answer however the samples are bent, as long
as that can be undone, and heavy tails, edges, many dimensions and noise dimensions each try
something else.
"""

from functools import cache

from milr.data.known import warps
from milr.data.known.maps import feature_map, graded, parity_map
from milr.data.known.mixtures import mixture, symbols, uniform_noise
from milr.data.known.normal import correlation_of, dense, normal, pairs, student
from milr.data.known.task import Task, Warp, warped

__all__ = ["FAMILIES", "Task", "Warp", "staircase", "tasks", "warped"]

FAMILIES = ("normal", "warped", "Student-t", "uniform noise", "mixture", "feature map")


@cache
def tasks() -> dict[str, Task]:
    """All tasks by name, in the order of `FAMILIES`; from 0 to 5 nats."""
    found = [*_normals(), *_warped(), *_students(), *_noises(), *_mixtures(), *_maps()]
    return {task.name: task for task in found}


def staircase(steps=range(1, 11), dimensions: int = 10) -> list[Task]:
    """Normal pairs of this many dimensions each side with 1, 2, ... 10 nats."""
    return [
        normal(f"stair {step}", pairs(dimensions, correlation_of(step / dimensions)), dimensions)
        for step in steps
    ]


def _normals() -> list[Task]:
    def single(information: float) -> Task:
        name = f"normal 1x1, {information:g} nats"
        return normal(name, pairs(1, correlation_of(information)), 1)

    return [
        *(single(information) for information in (0, 0.1, 0.5, 1, 2, 3.5)),
        normal("normal 3x3, 0 nats", pairs(3, 0.0), 3),
        *(normal(f"dense {d}x{d}", dense(d, d), d) for d in (2, 5, 25, 50)),
        *(normal(f"sparse {d}x{d}", pairs(d, 0.8, 2), d) for d in (2, 5, 25, 50)),
        *(
            normal(f"pairs 10x10, {i} nats", pairs(10, correlation_of(i / 10)), 10)
            for i in (2, 5)
        ),
    ]  # fmt: skip


def _warped() -> list[Task]:
    one = normal("", pairs(1, correlation_of(1)), 1)
    two = normal("", pairs(1, correlation_of(2)), 1)
    three = normal("", pairs(3, 0.8, 2), 3)
    five = normal("", pairs(5, 0.8, 2), 5)

    def both(task: Task, name: str, warp: Warp) -> Task:
        return warped(task, name, "warped", warp, warp)

    def turned(task: Task, name: str, planes) -> Task:
        return warped(task, name, "warped", warps.spiral(planes), warps.IDENTITY)

    return [
        both(one, "asinh 1x1", warps.ASINH),
        both(one, "half-cube 1x1", warps.HALF_CUBE),
        both(five, "half-cube 5x5", warps.HALF_CUBE),
        both(one, "normal CDF 1x1, 1 nats", warps.NORMAL_CDF),
        both(two, "normal CDF 1x1, 2 nats", warps.NORMAL_CDF),
        both(five, "normal CDF 5x5", warps.NORMAL_CDF),
        warped(one, "swiss roll 2x1", "warped", warps.SWISS_ROLL, warps.NORMAL_CDF),
        turned(three, "spiral 3x3", [(0, 1)]),
        turned(five, "spiral 5x5", [(0, 1), (2, 3)]),
    ]


def _students() -> list[Task]:
    kinds = ((1, 1, 1), (2, 2, 1), (3, 3, 2), (5, 5, 3))
    found = [
        student(f"Student-t {dx}x{dz}, {v} degrees", pairs(dx, 0.8, min(dx, 2)), dx, v)
        for dx, dz, v in kinds[1:]
    ]
    alone = student("Student-t 1x1, 1 degree", pairs(1, 0.0), 1, 1)
    bent = warped(found[1], "asinh of Student-t 3x3", "Student-t", warps.ASINH, warps.ASINH)
    return [alone, *found, bent]


def _noises() -> list[Task]:
    return [uniform_noise(f"uniform noise, {reach:g}", reach) for reach in (0.02, 0.1, 0.75)]


def _mixtures() -> list[Task]:
    near, far = (0.3, 0.3), (1.0, 1.0)
    corners = [(1, 1), (-1, -1), (1, -1), (-1, 1)]
    return [
        mixture("two clusters", [0.5, 0.5], [(2, 2), (-2, -2)], [far, far], [0.6, 0.6]),
        mixture("cross", [0.5, 0.5], [(0, 0), (0, 0)], [far, far], [0.95, -0.95]),
        mixture("outliers", [0.8, 0.2], [(0, 0), (0, 0)], [near, (1.5, 1.5)], [0.95, 0]),
        mixture("uneven corners", [0.45, 0.35, 0.1, 0.1], corners, [near] * 4, [0] * 4),
        symbols("five symbols, clear", 5, 0.2),
        symbols("five symbols, blurred", 5, 1.0),
    ]


def _maps() -> list[Task]:
    return [
        feature_map("map, 2 of 8 informative", [0.8, 0.8] + [0] * 6, [0, 1] + [0] * 6),
        feature_map("map, graded", graded(16, 1.0), [i % 2 for i in range(16)]),
        feature_map(
            "map, redundant", [0.8] + [0] * 7, [0] * 8, [(i, 0) for i in range(1, 6)]
        ),
        feature_map("map, all informative", [0.95] * 4, [0, 1, 0, 1]),
        parity_map("map, parity"),
    ]  # fmt: skip
