"""Parts that depend on one another, in an order in which each comes after what it depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

__all__ = ["in_order"]

Part = TypeVar("Part")


def in_order(parts: Sequence[Part], precedes: Callable[[Part, Part], bool]) -> list[list[Part]]:
    """The strongly connected components of the graph of ``precedes``, each after those that precede it.

    >>> in_order([3, 1, 2, 4], lambda a, b: b == a + 1 or (a, b) == (3, 2))
    [[1], [3, 2], [4]]
    """
    count = len(parts)
    reached = np.eye(count, dtype=bool)
    for i, j in np.ndindex(count, count):
        reached[i, j] |= i != j and precedes(parts[i], parts[j])
    for k in range(count):  # Warshall's closure
        reached |= reached[:, k, None] & reached[None, k]
    mutual = reached & reached.T
    # What comes later in the order has more that comes before it; what depends on one another has equally much.
    before = reached.sum(0)
    firsts = sorted({int(np.flatnonzero(row)[0]) for row in mutual}, key=lambda k: int(before[k]))
    return [[parts[int(k)] for k in np.flatnonzero(mutual[first])] for first in firsts]
