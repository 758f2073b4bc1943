"""Axis maps: along which dimension of its result a primitive acts entry by entry on each dimension of its operands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Take, dimension_groups

__all__ = ["AxisMap", "axis_map"]

Shape = tuple[int, ...]
AxisMap = tuple[tuple[int | None, ...], ...]


def axis_map(primitive: p.Primitive, shapes: Sequence[Shape], out: Shape) -> AxisMap:
    """For each operand and each of its dimensions, the dimension d of the result of which entry k depends on entry k.

    None for a dimension whose entries are mixed, moved or broadcast.

    >>> axis_map(p.Reduce((1,), False, False), [(2, 3, 4)], (2, 4))
    ((0, None, 1),)
    """
    if isinstance(primitive, _ELEMENTWISE):
        return tuple(_aligned(shape, out) for shape in shapes)
    if isinstance(primitive, (p.Normalise, p.Softmax, p.Spread)):
        mixed = _bound(shapes[0], _dims(primitive))
        return (tuple(None if d in mixed else d for d in range(len(shapes[0]))),)
    if isinstance(primitive, (p.Reduce, p.Extremum, p.Positions, p.Deviation)):
        return (_reduced(shapes[0], _bound(shapes[0], primitive.dims), primitive.keepdim),)
    if isinstance(primitive, p.Contract):
        pairs = zip((primitive.how.x, primitive.how.y), shapes, strict=True)
        return tuple(_lettered(letters, shape, primitive.how.out, out) for letters, shape in pairs)
    if isinstance(primitive, p.Pool):
        mixed = _bound(shapes[0], primitive.dims)
        return (tuple(None if d in mixed else d for d in range(len(shapes[0]))),)
    if isinstance(primitive, p.Gather):
        # The index's dimensions stand where the picked one stood and push those behind it back.
        after = len(primitive.index_shape) - 1
        dims = range(len(shapes[0]))
        return (tuple(d if d < primitive.dim else None if d == primitive.dim else d + after for d in dims),)
    if isinstance(primitive, p.Scatter):
        moved = {primitive.dim, *primitive.apart}
        return tuple(
            tuple(d if d not in moved and n == m else None for d, (n, m) in enumerate(zip(shape, out, strict=False)))
            if len(shape) == len(out) else (None,) * len(shape)
            for shape in shapes
        )  # fmt: skip
    if isinstance(primitive, p.Concatenate):
        dim = primitive.dim % len(out)
        return tuple(tuple(None if d == dim else d for d in range(len(shape))) for shape in shapes)
    if isinstance(primitive, p.Pad):
        return (tuple(None if d == primitive.dim % len(out) else d for d in range(len(shapes[0]))),)
    if isinstance(primitive, p.Rearrange):
        return (_viewed(primitive, shapes[0], out),)
    # All other primitives relate no entry to a place, which is the safe answer for every reader of the map.
    return tuple((None,) * len(shape) for shape in shapes)


_ELEMENTWISE = (
    p.Add, p.AddNumber, p.Scale, p.Multiply, p.Power, p.Restrict, p.Homogeneous, p.Exponential, p.Logarithm,
    p.Nonlinear, p.Maximum, p.Noise, p.Select, p.Mask,
)  # fmt: skip


def _aligned(shape: Shape, out: Shape) -> tuple[int | None, ...]:
    front = len(out) - len(shape)
    # A dimension of one entry that is repeated is none: its entry goes into every entry of the result.
    return tuple(front + d if n == out[front + d] else None for d, n in enumerate(shape))


def _dims(primitive: p.Normalise | p.Softmax | p.Spread) -> Iterable[int]:
    if isinstance(primitive, p.Normalise):
        return primitive.dims
    return (primitive.dim,) if isinstance(primitive, p.Softmax) else (primitive.dim, *primitive.apart)


def _bound(shape: Shape, dims: Iterable[int]) -> frozenset[int]:
    return frozenset(d % max(1, len(shape)) for d in dims)


def _reduced(shape: Shape, bound: frozenset[int], keepdim: bool) -> tuple[int | None, ...]:
    kept = [d for d in range(len(shape)) if keepdim or d not in bound]
    return tuple(None if d in bound else kept.index(d) for d in range(len(shape)))


def _lettered(letters: str, shape: Shape, kept: str, out: Shape) -> tuple[int | None, ...]:
    places = {letter: d for d, letter in enumerate(kept)}
    pairs = zip(letters, shape, strict=True)
    return tuple(places[letter] if letter in places and out[places[letter]] == n else None for letter, n in pairs)


def _viewed(primitive: p.Rearrange, shape: Shape, out: Shape) -> tuple[int | None, ...]:
    view = primitive.view
    if isinstance(view, Permute):
        return tuple(view.order.index(d) for d in range(len(shape)))
    if isinstance(view, Expand):
        return _aligned(shape, out)
    if isinstance(view, Take):
        return tuple(None if d == view.dim else d for d in range(len(shape)))
    found: list[int | None] = [None] * len(shape)
    for inside, outside in dimension_groups(shape, out):
        # Merged or split dimensions have no counterpart, though their entries keep their order.
        if len(inside) == len(outside) == 1:
            found[inside[0]] = outside[0]
    return tuple(found)
