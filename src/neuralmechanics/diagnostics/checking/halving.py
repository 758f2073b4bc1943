"""Tests of many at once: all together first, and only where that fails each half on its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["by_halves"]

T = TypeVar("T")

_FEW = 8  # so many or fewer are looked at one by one: the numbers are then each one's own


def by_halves(
    items: Sequence[int], measure: Callable[[tuple[int, ...]], T], holds: Callable[[tuple[int, ...], T], bool]
) -> dict[int, tuple[tuple[int, ...], T]]:
    """For each item the greatest set around it that holds, or itself alone, and what was measured of that set.

    Where all holds this is one measurement, with k faults among n items about 2 k log₂ n.

    >>> calls = []
    >>> found = by_halves(range(64), lambda chosen: calls.append(chosen), lambda chosen, _: 13 not in chosen)
    >>> len(calls), found[13][0], found[14][0], len(found[63][0])
    (13, (13,), (14, 15), 32)
    """
    found: dict[int, tuple[tuple[int, ...], T]] = {}
    waiting = [tuple(items)] if len(items) > _FEW else [(item,) for item in items]
    while waiting:
        chosen = waiting.pop()
        result = measure(chosen)
        if len(chosen) == 1 or holds(chosen, result):
            found |= dict.fromkeys(chosen, (chosen, result))
        else:
            middle = len(chosen) // 2
            waiting += [chosen[:middle], chosen[middle:]]
    return found
