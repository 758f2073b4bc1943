"""Sums of exponentials: along which dimensions of x a value that is linear in exp(x) was kept, summed or repeated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Take, View, dimension_groups
from neuralmechanics.symmetry.program.value import Value

__all__ = ["Axes", "PowerOfSum", "Weighted", "aligned", "moved", "viewed"]

Axes = tuple[int | None, ...]  # for each dimension of a value, the dimension of x that it runs along


@dataclass(frozen=True)
class Weighted:
    """A value that is linear in exp(x), summed over some dimensions of x and entry by entry along the others.

    ``factor``: where it is nothing but factor·Σ exp(x); None where more than numbers enter.
    """

    x: Value
    axes: Axes
    summed: frozenset[int]
    factor: float | None


@dataclass(frozen=True)
class PowerOfSum:
    """1/(factor·Z), or times·log(factor·Z), of a sum Z of exponentials over at least one dimension."""

    sum: Weighted
    times: float = 1.0


def aligned(weighted: Weighted, total: Weighted, one: Value, other: Value) -> bool:
    """Whether the sum that belongs to each entry of ``one`` is what ``other``, broadcast, holds there."""
    # L(exp x)/Z is L(exp x/Z) only where Z is constant over what L has summed.
    if not weighted.summed <= total.summed:
        return False
    front = len(one.shape) - len(other.shape)
    place = {d: k for k, d in enumerate(weighted.axes) if d is not None}
    theirs = {d: k + front for k, d in enumerate(total.axes) if d is not None}
    kept = [d for d, n in enumerate(total.x.shape) if n > 1 and d not in total.summed]
    # Along what Z sums and the value does not, the value must still hold every entry of x.
    inside = [d for d, n in enumerate(total.x.shape) if n > 1 and d in total.summed and d not in weighted.summed]
    return all(d in place and place[d] == theirs.get(d) for d in kept) and all(d in place for d in inside)


def moved(
    known: Weighted, primitive: p.Primitive, operands: Sequence[Value], held: Value, result: Value
) -> Weighted | None:
    """What a primitive that is linear in the held operand makes of it; None for others."""
    if isinstance(primitive, p.Scale):
        return replace(known, factor=None if known.factor is None else known.factor * primitive.factor)
    # A random factor for each entry is linear in exp(x) still, but no multiple of a sum any more.
    if isinstance(primitive, p.Noise):
        return replace(known, factor=None)
    if isinstance(primitive, p.Rearrange):
        axes = viewed(known.axes, primitive.view, held.shape, result.shape)
        return None if axes is None else replace(known, axes=axes)
    if isinstance(primitive, p.Reduce) and primitive.function is None:
        return _summed(known, primitive, held)
    if isinstance(primitive, p.Multiply) and primitive.function is None:
        front = len(result.shape) - len(held.shape)
        return replace(known, axes=((None,) * front + known.axes), factor=None)
    if isinstance(primitive, p.Contract) and primitive.function is None and not primitive.how.windows:
        how, own = primitive.how, primitive.how.x if operands[0] is held else primitive.how.y
        axis = dict(zip(own, known.axes, strict=True))
        gone = {d for letter, d in axis.items() if letter not in how.out and d is not None}
        axes = tuple(axis.get(letter) for letter in how.out)
        return replace(known, axes=axes, summed=known.summed | gone, factor=None)
    return None


def _summed(known: Weighted, reduce: p.Reduce, held: Value) -> Weighted:
    """After a sum or a mean over some dimensions."""
    bound = {d % len(held.shape) for d in reduce.dims}
    gone = {known.axes[d] for d in bound}
    axes = tuple(None if d in bound else a for d, a in enumerate(known.axes) if reduce.keepdim or d not in bound)
    factor = known.factor
    if factor is not None:
        times = math.prod(held.shape[d] // _size(known, d) for d in bound)  # entries that only repeat others
        count = math.prod(held.shape[d] for d in bound) if reduce.mean else 1
        factor = factor * times / count if count else None
    return replace(known, axes=axes, summed=known.summed | {d for d in gone if d is not None}, factor=factor)


def viewed(axes: Axes, view: View, before: tuple[int, ...], after: tuple[int, ...]) -> Axes | None:
    """Where the dimensions have gone, if each is still whole and in order."""
    if isinstance(view, Permute):
        return tuple(axes[d] for d in view.order)
    if isinstance(view, Expand):
        return (None,) * (len(after) - len(before)) + axes
    # The sum belongs to all entries of x: with some of them, quotients by it no longer add up to one.
    if isinstance(view, Take):
        return None
    found: list[int | None] = [None] * len(after)
    for inside, outside in dimension_groups(before, after):
        wide, there = [d for d in inside if before[d] > 1], [d for d in outside if after[d] > 1]
        if len(wide) == len(there) == 1:
            found[there[0]] = axes[wide[0]]
        elif wide or there:
            return None
    return tuple(found)


def _size(known: Weighted, d: int) -> int:
    """How many entries that differ the value has along a dimension."""
    axis = known.axes[d]
    return 1 if axis is None else known.x.shape[axis]


def has_logarithm(total: Weighted) -> bool:
    """Whether it is a positive multiple of Z that holds every sum."""
    kept = {d for d, n in enumerate(total.x.shape) if n > 1 and d not in total.summed}
    return total.factor is not None and total.factor > 0 and kept <= set(total.axes)


def constant_along(y: Value, x: Value, dims: frozenset[int]) -> bool:
    """Whether y, broadcast to the shape of x, is constant along the dimensions."""
    front = len(x.shape) - len(y.shape)
    return all(d < front or y.shape[d - front] == 1 for d in dims)
