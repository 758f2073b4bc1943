"""Blocks of a tensor along one dimension, put one behind the other along another: the tensor, rearranged.

Heads that are taken apart and put together again, [v₀, v₁] along the channels, are the channels of all heads; and where
these had been split into heads before, nothing but a reshape is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Permute, Reshape, Take, View
from neuralmechanics.symmetry.program.program import Location
from neuralmechanics.symmetry.program.value import Value

__all__ = ["Blocks", "blocks_of"]

Shape = tuple[int, ...]
_Atom = tuple[int, tuple[int, ...]]
"""A factor of a dimension: its size, and where it stands among all in the order in which entries lie."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """``count`` blocks of ``base`` along ``along``, of each the entries ``inside``, side by side in ``shape``.

    They stand one behind the other where ``before`` dimensions of more than one entry stand in front.
    """

    base: Value
    along: int
    count: int
    inside: tuple[int, ...]
    before: int
    shape: Shape

    def write(self, tape: Tape, cause: Location) -> Value:
        """The base with its blocks in a dimension of their own, which then comes to the others."""
        shape, e = self.base.shape, self.along
        split = (*shape[:e], self.count, shape[e] // self.count, *shape[e + 1 :])
        views: list[View] = [Reshape(split)]
        if self.inside != tuple(range(split[e + 1])):
            views.append(Take(e + 1, self.inside))
            split = (*split[: e + 1], len(self.inside), *split[e + 2 :])
        order = [d for d in range(len(split)) if d != e]
        wide = [d for d in order if split[d] != 1]
        order.insert(order.index(wide[self.before]) if self.before < len(wide) else len(order), e)
        return _rearranged(tape, cause, self.base, [*views, Permute(tuple(order)), Reshape(self.shape)])


def blocks_of(
    values: Sequence[Value],
    dim: int,
    tape: Tape,
    same: Callable[[Sequence[Value]], bool],
    alone: Callable[[Value], bool],
) -> Blocks | None:
    """The values, one behind the other along ``dim``, as all blocks of one tensor in their order.

    ``same``: whether values are equal; ``alone``: whether one instruction reads a value.
    """
    found = [_taken(x, tape, alone) for x in values]
    shapes = {x.shape for x in values}
    if any(pair is None for pair in found) or len(shapes) != 1:
        return None
    bases, takes = zip(*(pair for pair in found if pair is not None), strict=True)
    along = {take.dim for take in takes}
    first, count, own = takes[0], len(values), shapes.pop()
    if len(along) != 1 or not same(bases) or not first.positions or bases[0].shape[first.dim] % count:
        return None
    size = bases[0].shape[first.dim] // count
    inside = first.positions
    if not size or any(take.positions != tuple(k * size + j for j in inside) for k, take in enumerate(takes)):
        return None
    behind = (*own[:dim], own[dim] * count, *own[dim + 1 :])
    return Blocks(bases[0], first.dim, count, inside, sum(n != 1 for n in own[:dim]), behind)


def _taken(x: Value, tape: Tape, alone: Callable[[Value], bool]) -> tuple[Value, Take] | None:
    """The tensor and the entries that are taken of it, but for dimensions of one entry."""
    shape = [n for n in x.shape if n != 1]
    while alone(x) and (maker := tape.made.get(x.index)) is not None and isinstance(maker.primitive, p.Rearrange):
        view, (before,) = maker.primitive.view, maker.operands
        if isinstance(view, Take):
            return before, view
        if not isinstance(view, Reshape) or [n for n in before.shape if n != 1] != shape:
            return None
        x = before
    return None


def _rearranged(tape: Tape, cause: Location, x: Value, views: Sequence[View]) -> Value:
    """x after the views; as one reshape of the value furthest back from which on all entries keep their order."""
    before, since, found = x, list(views), None
    while True:
        shape = _straight(before.shape, since)
        found = found if shape is None else (before, shape)
        maker = tape.made.get(before.index)
        view = maker.primitive.view if maker is not None and isinstance(maker.primitive, p.Rearrange) else None
        if maker is None or not isinstance(view, (Reshape, Permute)):
            break
        (before,), since = maker.operands, [view, *since]
    if found is not None:
        x, shape = found
        return x if shape == x.shape else tape.new(cause, p.Rearrange(Reshape(shape)), x)
    for view in views:
        x = tape.new(cause, p.Rearrange(view), x)
    return x


def _straight(shape: Shape, views: Sequence[View]) -> Shape | None:
    """The shape after reshapes and permutations where no entry changes its place among all; else None."""
    dims: list[list[_Atom]] = [[(n, (d,))] for d, n in enumerate(shape)]
    for view in views:
        split = _reshaped(dims, view.shape) if isinstance(view, Reshape) else None
        if isinstance(view, Permute):
            split = [dims[d] for d in view.order]
        if split is None:
            return None
        dims = split
    places = [place for atoms in dims for size, place in atoms if size > 1]
    return tuple(math.prod(size for size, _ in atoms) for atoms in dims) if places == sorted(places) else None


def _reshaped(dims: Sequence[Sequence[_Atom]], shape: Shape) -> list[list[_Atom]] | None:
    """The factors of each dimension after a reshape; None where a factor would have to be cut unevenly."""
    waiting = [atom for atoms in dims for atom in atoms if atom[0] != 1][::-1]
    out: list[list[_Atom]] = []
    for n in shape:
        found: list[_Atom] = []
        while n > 1:
            if not waiting:
                return None
            size, place = waiting.pop()
            if not size or (n % size and size % n):
                return None
            if size > n:
                waiting.append((size // n, (*place, 1)))
                size, place = n, (*place, 0)
            found.append((size, place))
            n //= size
        out.append(found)
    return out if not waiting else None
