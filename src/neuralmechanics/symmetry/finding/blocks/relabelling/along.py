"""Relabeled values along dimensions: sums, products, norms, and entries rearranged."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from neuralmechanics.symmetry.finding.blocks.relabelling.moved import Moved, Order, common
from neuralmechanics.symmetry.finding.blocks.relabelling.terms import UnfollowedError
from neuralmechanics.symmetry.finding.blocks.relabelling.together import Reading, together
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Take, dimension_groups
from neuralmechanics.symmetry.program.axes import axis_map
from neuralmechanics.symmetry.program.program import Instruction

__all__ = ["ALONG"]

_WRITTEN_OUT = 1 << 20  # entries of dimensions that a reshape joins or splits, up to which an order of them is followed


def _unnamed(reading: Reading, instruction: Instruction) -> list[Moved]:
    found = [reading.value(x) for x in instruction.operands]
    if any(x.names is not None for x in found):
        raise UnfollowedError("renamed integers in a sum")
    return found


def contracted(reading: Reading, instruction: Instruction) -> Moved:
    """A letter has one order in both factors; where it is summed, that is forgotten."""
    primitive, result = instruction.primitive, instruction.result
    assert isinstance(primitive, p.Contract)
    assert result is not None
    how = primitive.how
    function: Function | None = getattr(primitive, "function", None)
    reading.read_beside(function)
    operands = _unnamed(reading, instruction)
    orders: dict[str, list[Order | None]] = {}
    for x, value, letters in zip(operands, instruction.operands, (how.x, how.y), strict=True):
        for d, letter in enumerate(letters):
            if value.shape[d] > 1 and not x.number:
                orders.setdefault(letter, []).append(x.dims.get(d))
    met = {letter: common(found) for letter, found in orders.items()}
    bound = {w.x for w in how.windows} | {w.kernel for w in how.windows}
    if any(order is not None and (letter in bound or function is not None) for letter, order in met.items()):
        raise UnfollowedError("an order along a window")
    dims = {d: order for d, letter in enumerate(how.out) if (order := met.get(letter)) is not None}
    return Moved(reading.made(instruction, operands), dims)


def reduced(reading: Reading, instruction: Instruction) -> Moved:
    """A sum, a mean or an extremum does not see the order of what it takes in."""
    primitive: Any = instruction.primitive
    (x,) = _unnamed(reading, instruction)
    shape = instruction.operands[0].shape
    bound = {d % len(shape) for d in primitive.dims} if shape else set()
    if getattr(primitive, "function", None) is not None and bound & set(x.dims):
        raise UnfollowedError("a function of entries in another order")
    kept = [d for d in range(len(shape)) if primitive.keepdim or d not in bound]
    dims = {kept.index(d): order for d, order in x.dims.items() if d not in bound}
    return Moved(reading.made(instruction, [x]), dims)


def normalised(reading: Reading, instruction: Instruction) -> Moved:
    """Entries are divided by what does not see their order."""
    primitive: Any = instruction.primitive
    if getattr(primitive, "function", None) is not None:
        return together(reading, instruction)
    (x,) = _unnamed(reading, instruction)
    return Moved(reading.made(instruction, [x]), x.dims)


def rearranged(reading: Reading, instruction: Instruction) -> Moved:
    """Entries keep what they are called, and their order where a dimension stays one or is written out."""
    primitive, result = instruction.primitive, instruction.result
    assert isinstance(primitive, p.Rearrange)
    assert result is not None
    view = primitive.view
    x, shape = reading.value(instruction.operands[0]), instruction.operands[0].shape
    if reading.terms.of[instruction.operands[0].index] == reading.terms.of[result.index]:
        return x  # all stays where it is
    if isinstance(view, Take):
        return _taken(reading, instruction, view, x)
    if isinstance(view, Permute):
        dims = {view.order.index(d): order for d, order in x.dims.items()}
    elif isinstance(view, Expand):
        (places,) = axis_map(primitive, [shape], result.shape)
        dims = {to: order for d, order in x.dims.items() if (to := places[d]) is not None}
    else:
        dims = _reshaped(x, shape, result.shape)
    return Moved(reading.made(instruction, [x]), dims, x.names)


def _reshaped(x: Moved, shape: tuple[int, ...], after: tuple[int, ...]) -> dict[int, Order]:
    out: dict[int, Order] = {}
    for inside, outside in dimension_groups(shape, after):
        moved = [d for d in inside if d in x.dims]
        if not moved:
            continue
        wide, wider = [d for d in inside if shape[d] > 1], [d for d in outside if after[d] > 1]
        if len(wide) == len(wider) == 1:
            out[wider[0]] = x.dims[moved[0]]
            continue
        out |= _written_out(x, [shape[d] for d in inside], inside, [after[d] for d in outside], outside)
    return out


def _written_out(
    x: Moved, sizes: list[int], inside: list[int], wanted: list[int], outside: list[int]
) -> dict[int, Order]:
    """The order of joined entries, as one of each dimension into which they are split."""
    if math.prod(sizes) > _WRITTEN_OUT or any(not isinstance(x.dims.get(d, ()), tuple) for d in inside):
        raise UnfollowedError("rows in an order of the data are joined with others")
    places = np.arange(math.prod(sizes)).reshape(sizes)
    for axis, d in enumerate(inside):
        moved = x.dims.get(d)
        if isinstance(moved, tuple):
            places = places.take(np.array(moved), axis=axis)
    digits = np.unravel_index(places.reshape(-1), wanted)
    out: dict[int, Order] = {}
    for axis, (d, n) in enumerate(zip(outside, wanted, strict=True)):
        own = np.moveaxis(digits[axis].reshape(wanted), axis, 0).reshape(n, -1)
        if (own != own[:, :1]).any():
            raise UnfollowedError("an order of which no dimension has its own part")
        order = tuple(own[:, 0].tolist())
        if order != tuple(range(n)):
            out[d] = order
    return out


def _taken(reading: Reading, instruction: Instruction, view: Take, x: Moved) -> Moved:
    """Entries taken of others in another order: the same in an order of their own, or other ones."""
    dims = {d: order for d, order in x.dims.items() if d != view.dim}
    order = x.dims.get(view.dim)
    if order is None:
        return Moved(reading.made(instruction, [x]), dims, x.names)
    if not isinstance(order, tuple):
        raise UnfollowedError("entries at given places of rows in an order of the data")
    places = tuple(order[k] for k in view.positions)
    if sorted(places) == sorted(view.positions) and len(set(places)) == len(places):
        at = {n: k for k, n in enumerate(view.positions)}
        inside = tuple(at[n] for n in places)
        if inside != tuple(range(len(inside))):
            dims[view.dim] = inside
        return Moved(reading.made(instruction, [x]), dims, x.names)
    other = p.Rearrange(Take(view.dim, places))
    term = reading.terms.number(
        (type(other).__name__, reading.terms.settings(other, reading.term), (reading.whole(x),))
    )
    return Moved(term, dims, x.names)


def concatenated(reading: Reading, instruction: Instruction) -> Moved:
    """Parts in another order are the whole in another order; each part may have its own."""
    primitive, result = instruction.primitive, instruction.result
    assert isinstance(primitive, p.Concatenate)
    assert result is not None
    dim = primitive.dim % len(result.shape)
    parts = _unnamed(reading, instruction)
    orders: dict[int, list[Order | None]] = {}
    for x, value in zip(parts, instruction.operands, strict=True):
        for d, n in enumerate(value.shape):
            if d != dim and n > 1 and not x.number:
                orders.setdefault(d, []).append(x.dims.get(d))
    dims = {d: shared for d, met in orders.items() if (shared := common(met)) is not None}
    widths = [value.shape[dim] for value in instruction.operands]
    own, moved = [reading.terms.of[x.index] for x in instruction.operands], [reading.whole(x) for x in parts]
    known = sorted(own) == sorted(moved) and len(set(own)) == len(own) and len(set(widths)) == 1
    places = [own.index(term) for term in moved] if known else list(range(len(own)))
    order: list[int] = []
    for place, x, n in zip(places, parts, widths, strict=True):
        inside = x.dims.get(dim, tuple(range(n)))
        if not isinstance(inside, tuple):
            raise UnfollowedError("rows in an order of the data are joined with others")
        order += [sum(widths[:place]) + k for k in inside]
    if order != sorted(order):
        dims[dim] = tuple(order)
    return Moved(reading.terms.of[result.index] if known else reading.made(instruction, parts), dims)


ALONG: dict[type, Callable[[Reading, Instruction], Moved]] = {
    p.Contract: contracted,
    p.Reduce: reduced,
    p.Extremum: reduced,
    p.Deviation: reduced,
    p.Softmax: normalised,
    p.Normalise: normalised,
    p.Rearrange: rearranged,
    p.Concatenate: concatenated,
}
