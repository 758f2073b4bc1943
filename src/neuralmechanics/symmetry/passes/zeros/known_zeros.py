"""Entries that are zero whatever data and parameters are: paddings, states at the start, what is made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take, dimension_groups
from neuralmechanics.symmetry.program.axes import axis_map
from neuralmechanics.symmetry.program.program import Instruction, Program

__all__ = ["Zeros", "known_zeros"]

Shape = tuple[int, ...]
Zeros = Mapping[int, frozenset[int]]  # along a dimension, the places at which all entries are zero

_WRITTEN_OUT = 1 << 20  # entries up to which dimensions that merge or split are followed


@naming_the_operation
def known_zeros(program: Program) -> dict[int, Zeros]:
    """For the index of each value that has any, its zeros along each dimension.

    >>> from neuralmechanics.symmetry.program.builder import Builder
    >>> d = Builder()
    >>> padded = d.zero_padded(d.parameter("x", (2, 3)), 1, 1, 0)
    >>> known_zeros(d.program())
    {1: {1: frozenset({0})}}
    """
    found: dict[int, Zeros] = {}
    for instruction in program.instructions:
        # A value that is zero throughout says so by its number, along no dimension in particular.
        if instruction.result is None or instruction.result.number == 0:
            continue
        zeros = {dim: places for dim, places in _made(instruction, found).items() if places}
        if zeros:
            found[instruction.result.index] = zeros
    return found


def _made(instruction: Instruction, known: Mapping[int, Zeros]) -> Zeros:
    primitive, operands, result = instruction.primitive, instruction.operands, instruction.result
    if result is None or not operands:
        return {}
    held = [known.get(x.index, {}) for x in operands]
    if isinstance(primitive, p.Pad):
        return _padded(primitive, operands[0].shape, held[0])
    if isinstance(primitive, p.Concatenate):
        dim, start, places = primitive.dim % len(result.shape), 0, set[int]()
        for x, zeros in zip(operands, held, strict=True):
            own = range(x.shape[dim]) if x.constant_number() == 0 else zeros.get(dim, ())
            places |= {start + k for k in own}
            start += x.shape[dim]
        return {dim: frozenset(places)}
    if isinstance(primitive, p.Restrict):
        return _left_out(primitive)
    if not any(held):
        return {}
    if isinstance(primitive, p.Rearrange):
        return _viewed(primitive, operands[0].shape, result.shape, held[0])
    axes = axis_map(primitive, [x.shape for x in operands], result.shape)
    moved = [{to: zeros[d] for d, to in enumerate(own) if to is not None and d in zeros}
             for own, zeros in zip(axes, held, strict=True)]  # fmt: skip
    # A product is zero where any factor is, a sum or a maximum only where both operands are.
    if isinstance(primitive, (p.Multiply, p.Contract)) and _plain(primitive):
        return {d: reduce(frozenset.union, (m.get(d, frozenset()) for m in moved)) for d in range(len(result.shape))}
    if isinstance(primitive, (p.Add, p.Maximum)):
        return {d: reduce(frozenset.intersection, (m.get(d, frozenset()) for m in moved)) for d in moved[0]}
    if isinstance(primitive, _KEEPING) or (isinstance(primitive, p.Power) and primitive.exponent > 0):
        return moved[0]
    return {}


def _left_out(primitive: p.Restrict) -> Zeros:
    """Where no entry along the other dimensions matters: what is made of it is zero there."""
    kept = primitive.kept
    alive = {d: kept.any(axis=tuple(k for k in range(kept.ndim) if k != d)) for d in range(kept.ndim)}
    return {d: frozenset(np.flatnonzero(~some).tolist()) for d, some in alive.items()}


# f(0) = 0 for each of them; sums over zeros are zero, too.
_KEEPING = (p.Scale, p.Homogeneous, p.Noise, p.Reduce)


def _plain(primitive: p.Multiply | p.Contract) -> bool:
    return primitive.function is None


def _padded(primitive: p.Pad, shape: Shape, zeros: Zeros) -> Zeros:
    dim = primitive.dim % len(shape)
    inside = {primitive.before + k for k in zeros.get(dim, ())}
    total = shape[dim] + primitive.before + primitive.after
    around = (*range(primitive.before), *range(total - primitive.after, total))
    return {**zeros, dim: frozenset(k for k in (*inside, *around) if 0 <= k < total)}


def _viewed(primitive: p.Rearrange, shape: Shape, out: Shape, zeros: Zeros) -> Zeros:
    view = primitive.view
    if isinstance(view, Permute):
        return {k: zeros[d] for k, d in enumerate(view.order) if d in zeros}
    if isinstance(view, Expand):
        front = len(out) - len(shape)
        return {front + d: places for d, places in zeros.items() if out[front + d] == shape[d]}
    if isinstance(view, Take):
        own = frozenset(k for k, place in enumerate(view.positions) if place in zeros.get(view.dim, ()))
        return {**zeros, view.dim: own}
    return _reshaped(view, shape, out, zeros)


def _reshaped(view: Reshape, shape: Shape, out: Shape, zeros: Zeros) -> Zeros:
    """Dimensions that merge: every place whose entry along one of them is a zero. Those that split are let go."""
    found: dict[int, frozenset[int]] = {}
    for inside, outside in dimension_groups(shape, view.shape):
        wide = [d for d in outside if out[d] > 1]
        sizes = [shape[d] for d in inside]
        if len(wide) != 1 or math.prod(sizes) > _WRITTEN_OUT:
            continue
        places: set[int] = set()
        for number, d in enumerate(inside):
            step = math.prod(sizes[number + 1 :])
            held = zeros.get(d, frozenset())
            places |= {k for k in range(math.prod(sizes) if held else 0) if (k // step) % sizes[number] in held}
        found[wide[0]] = frozenset(places)
    return found


def without(size: int, places: Sequence[int] | frozenset[int]) -> tuple[int, ...]:
    """The other places along a dimension."""
    return tuple(k for k in range(size) if k not in places)
