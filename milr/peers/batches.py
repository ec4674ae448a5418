"""How competitors that learn are fed: as `MILR.fit` is, with as many batches as they need."""

from collections.abc import Iterable, Iterator
from itertools import islice


def exactly(count: int, batches: Iterable) -> Iterator:
    """The first `count` of the batches.

    Raises ValueError, once they are used up, if there are fewer.
    """
    found = 0
    for batch in islice(batches, count):
        yield batch
        found += 1
    if found < count:
        raise ValueError(f"the batches ended after {found}, and {count} are needed; give more")
