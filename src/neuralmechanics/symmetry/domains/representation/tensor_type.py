"""What is known of a tensor's value beside how it transforms: gains, squares, and what a centring norm leaves empty."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from neuralmechanics.symmetry.domains.representation.spaces import Leg, dressed
from neuralmechanics.symmetry.families.actions.terms.gain import Dressing, Gain
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take, View, dimension_groups

__all__ = [
    "Carried",
    "Hollow",
    "centred_along",
    "narrow",
    "places_of",
    "plain",
    "scaled_hollow",
    "shifted_hollow",
    "viewed",
]

Shape = tuple[int, ...]
Legs = tuple[Leg | None, ...]


@dataclass(frozen=True)
class Hollow:
    """Σ_j x_j/D_j over dimension ``dim`` is a constant, Σ_j β_j/D_j over all ``shifts`` β."""

    dim: int
    dressing: Dressing = ()
    shifts: tuple[tuple[str, Dressing], ...] = ()


@dataclass(frozen=True, eq=False)
class Carried:
    """One leg a dimension (None: it does not transform), and what is known of the tensor's value.

    ``terms`` is empty for data. ``gain``: the value is gain^power along its one wide dimension. ``squares``: the value
    is the square of what the legs say, to be summed along those dimensions. ``source``: it is that parameter,
    rearranged, with the parameter's own for each dimension that is whole. ``same``: dimensions along which the value
    was repeated. ``sum_of``: it is that multiple of the sum of a tensor along one dimension, in the order of its
    entries.
    """

    shape: Shape
    legs: Legs
    terms: tuple[int, ...] = (1,)
    gain: tuple[Gain, float] | None = None
    squares: frozenset[int] = frozenset()
    source: tuple[str, tuple[int | None, ...]] | None = None
    hollow: Hollow | None = None
    same: frozenset[int] = frozenset()
    sum_of: tuple[Carried, int, float] | None = None

    def wide(self) -> list[int]:
        """Dimensions of more than one entry."""
        return [d for d, n in enumerate(self.shape) if n > 1]


def narrow(x: Carried) -> Carried:
    """x before it was repeated."""
    return replace(x, shape=tuple(1 if d in x.same else n for d, n in enumerate(x.shape)), same=frozenset())


def plain(shape: Sequence[int], legs: Iterable[Leg | None] | None = None, *of: Carried) -> Carried:
    """A tensor of which nothing but its legs is known."""
    carried = tuple(legs) if legs is not None else (None,) * len(shape)
    return Carried(tuple(shape), carried, (1,) if any(x.terms for x in of) else ())


def places_of(view: View, shape: Shape, out: Shape) -> dict[int, int]:
    """Where each dimension goes that stays whole."""
    if isinstance(view, Permute):
        return {d: k for k, d in enumerate(view.order)}
    if isinstance(view, Expand):
        front = len(out) - len(shape)
        return {d: d + front for d in range(len(shape))}
    if isinstance(view, Take):
        # Taken in another order, the entries would need the matrix conjugated by a permutation.
        whole = view.positions == tuple(range(shape[view.dim]))
        return {d: d for d in range(len(shape)) if d != view.dim or whole}
    place = {}
    for inside, outside in dimension_groups(shape, out):
        mine = [d for d in inside if shape[d] > 1]
        theirs = [d for d in outside if out[d] > 1]
        if len(mine) == 1 and len(theirs) == 1:
            place[mine[0]] = theirs[0]
    return place


def scaled_hollow(x: Carried, y: Carried) -> Hollow | None:
    """x·y where Σ x_j/D_j is known and y is a gain along that dimension or the same for all of it."""
    for one, other in ((x, y), (y, x)):
        hollow = one.hollow
        if hollow is None:
            continue
        if other.shape[hollow.dim] == 1:
            return hollow if not hollow.shifts else None
        if other.gain is not None and other.wide() == [hollow.dim]:
            more: Dressing = (other.gain,)
            shifts = tuple((name, dressed(since, more)) for name, since in hollow.shifts)
            return Hollow(hollow.dim, dressed(hollow.dressing, more), shifts)
    return None


def shifted_hollow(x: Carried, y: Carried, scale: float) -> Hollow | None:
    """x + y where Σ x_j/D_j is known and y a parameter that varies along that dimension only."""
    hollow = x.hollow
    if hollow is None or scale != 1 or y.gain is None or y.wide() != [hollow.dim]:
        return None
    if y.gain != (Gain(y.gain[0].parameter), 1.0):
        return None
    return replace(hollow, shifts=(*hollow.shifts, (y.gain[0].parameter, ())))


def centred_along(x: Carried, mean: Carried, scale: float) -> int | None:
    """The dimension along which x + scale·mean adds up to zero, where the mean is that of x."""
    # The very value and no equal one: that it is the same is seen, not proven.
    if mean.sum_of is None or mean.sum_of[0] is not x:
        return None
    _, dim, factor = mean.sum_of
    sizes = tuple(1 if d == dim else n for d, n in enumerate(x.shape))
    # 1/n is rounded, so n·(1/n) need not be 1.
    zero = math.isclose(scale * factor * x.shape[dim], -1.0, rel_tol=1e-9)
    return dim if zero and mean.shape == sizes and x.shape[dim] > 1 else None


def viewed(x: Carried, view: View, shape: Shape, place: dict[int, int]) -> Carried:
    """x rearranged; ``place`` says where each dimension goes that stays whole, the legs of others are ended before."""
    legs: list[Leg | None] = [None] * len(shape)
    for d, k in place.items():
        legs[k] = x.legs[d]
    out = Carried(shape, tuple(legs), x.terms)
    wide = x.wide()
    if x.gain is not None and len(wide) == 1 and wide[0] in place:
        out = replace(out, gain=x.gain)
    if x.squares:
        out = replace(out, squares=frozenset(place[d] for d in x.squares if d in place))
    if x.source is not None:
        after: list[int | None] = [None] * len(shape)
        for d, k in place.items():
            after[k] = x.source[1][d] if shape[k] == x.shape[d] else None
        out = replace(out, source=(x.source[0], tuple(after)))
    if isinstance(view, Expand):
        front = len(shape) - len(x.shape)
        same = {d + front for d in x.same} | {d + front for d, n in enumerate(x.shape) if n == 1 != shape[d + front]}
        out = replace(out, same=frozenset(same) | frozenset(range(front)))
    if isinstance(view, Reshape):
        out = replace(out, sum_of=x.sum_of)
    if x.hollow is not None and x.hollow.dim in place:
        out = replace(out, hollow=replace(x.hollow, dim=place[x.hollow.dim]))
    return out
