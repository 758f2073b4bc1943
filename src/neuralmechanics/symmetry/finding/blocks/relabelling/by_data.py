"""Relabeled values where the data decide: places of the largest, rows sorted by expert, entries picked and put."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neuralmechanics.symmetry.finding.blocks.relabelling.moved import Moved, Order, Rows, common, composed, inverse
from neuralmechanics.symmetry.finding.blocks.relabelling.put import scattered
from neuralmechanics.symmetry.finding.blocks.relabelling.terms import UnfollowedError
from neuralmechanics.symmetry.finding.blocks.relabelling.together import Reading, together
from neuralmechanics.symmetry.passes.rewriting.expert_axis import sorted_list
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import (
    COUNTS,
    ELSEWHERE,
    EQUALS,
    GROUPS,
    IDENTITY,
    LARGEST,
    ONE_HOT,
    PUT,
    SORTED,
    Function,
)  # fmt: skip
from neuralmechanics.symmetry.program.program import Instruction

__all__ = ["BY_DATA"]

_ORDERS = (LARGEST, SORTED, f"{SORTED} descending")


def _function(primitive: p.Primitive) -> Function | None:
    found: Function | None = getattr(primitive, "function", None)
    return found


def _name(primitive: p.Primitive) -> str:
    function = _function(primitive)
    return "" if function is None else function.name


def ordered(reading: Reading, instruction: Instruction) -> Moved:
    """Entries by their size do not see in which order they were; integers with new names are sorted into others."""
    primitive = instruction.primitive
    assert isinstance(primitive, p.Order)
    x = reading.value(instruction.operands[0])
    if x.plain:
        return Moved(reading.made(instruction, [x]))
    if _name(primitive) not in _ORDERS:
        raise UnfollowedError("an order statistic of entries in another order")
    dim = primitive.dim % len(primitive.shape)
    dims = {d: order for d, order in x.dims.items() if d != dim}
    term = reading.made(instruction, [x])
    if x.names is None:
        return Moved(term, dims)
    return Moved(term, {dim: _rows(reading, instruction, x)}, x.names)


def _rows(reading: Reading, instruction: Instruction, x: Moved) -> Rows:
    """How the rows of a sort by new names stand among those of the sort by the old ones."""
    if x.dims or len(instruction.operands[0].shape) != 1 or _name(instruction.primitive) == LARGEST:
        raise UnfollowedError("a sort of several lists by new names")
    return Rows(reading.whole(x))


def positions(reading: Reading, instruction: Instruction) -> Moved:
    """The places of the largest entries are called by where these stand now."""
    primitive: Any = instruction.primitive
    x, rank = reading.value(instruction.operands[0]), len(instruction.operands[0].shape)
    bound = [d % rank for d in primitive.dims]
    if x.names is not None or (len(bound) != 1 and set(bound) & set(x.dims)):
        raise UnfollowedError("places among several dimensions")
    kept = [d for d in range(rank) if primitive.keepdim or d not in bound]
    dims = {kept.index(d): order for d, order in x.dims.items() if d not in bound}
    order = x.dims.get(bound[0]) if len(bound) == 1 else None
    return Moved(reading.made(instruction, [x]), dims, None if order is None else inverse(order))


def computed(reading: Reading, instruction: Instruction) -> Moved:
    """Data made of data, or the places that an order of values gives."""
    primitive = instruction.primitive
    assert isinstance(primitive, p.Constant)
    maker = reading.makers[instruction.operands[0].index]
    beside = maker.cause.number == instruction.cause.number and maker.primitive
    if isinstance(beside, (p.Order, p.Extremum)):
        return _places(reading, instruction, maker)
    operands = [reading.value(x) for x in instruction.operands]
    term = reading.made(instruction, operands)
    if all(x.plain for x in operands):
        return Moved(term)
    (x,) = operands if len(operands) == 1 else (None,)
    name = _name(primitive)
    if x is not None and x.names is not None:
        return _of_names(reading, instruction, x, name)
    if not primitive.elementwise:
        raise UnfollowedError("data made of entries in another order")
    orders: dict[int, list[Order | None]] = {}
    for one, value in zip(operands, instruction.operands, strict=True):
        if one.names is not None:
            raise UnfollowedError("renamed integers in a function")
        front = len(primitive.shape) - len(value.shape)
        for d, n in enumerate(value.shape):
            if n > 1 and not one.number:
                orders.setdefault(front + d, []).append(one.dims.get(d))
    return Moved(term, {d: order for d, met in orders.items() if (order := common(met)) is not None})


def _places(reading: Reading, instruction: Instruction, maker: Instruction) -> Moved:
    x = reading.value(maker.operands[0])
    own: Any = instruction.primitive
    # The term is numbered by the values beside, which tell of what they are the largest.
    term = reading.made(instruction, [reading.value(v) for v in instruction.operands])
    if x.plain:
        return Moved(term)
    if isinstance(maker.primitive, p.Extremum):
        raise UnfollowedError("places beside an extremum")
    if _name(maker.primitive) not in _ORDERS:
        raise UnfollowedError("places of an order statistic")
    assert isinstance(maker.primitive, p.Order)
    dim = maker.primitive.dim % len(own.shape)
    dims = {d: order for d, order in x.dims.items() if d != dim}
    if x.names is not None:
        return Moved(term, {dim: _rows(reading, maker, x)})
    order = x.dims.get(dim)
    return Moved(term, dims, None if order is None else inverse(order))


def _of_names(reading: Reading, instruction: Instruction, x: Moved, name: str) -> Moved:
    """Which of several a renamed integer is, how often each occurs, whether it is a given one."""
    primitive = instruction.primitive
    assert isinstance(primitive, p.Constant)
    assert x.names is not None
    back = inverse(x.names)
    if not isinstance(back, tuple):
        raise UnfollowedError("places of rows as numbers")
    if name == ONE_HOT and len(back) <= primitive.shape[-1]:
        wide = back + tuple(range(len(back), primitive.shape[-1]))
        return Moved(reading.made(instruction, [x]), {**x.dims, len(primitive.shape) - 1: wide})
    if name == COUNTS and len(back) == primitive.shape[0]:
        return Moved(reading.made(instruction, [x]), {0: back})
    if name == EQUALS and primitive.function is not None:
        return Moved(_equal(reading, x, back, primitive.function.settings), x.dims)
    raise UnfollowedError("renamed integers in a function")


def _equal(reading: Reading, x: Moved, back: tuple[int, ...], number: object) -> int:
    """The term of a comparison of renamed integers with a number: of the old ones with another."""
    if isinstance(number, int) and 0 <= number < len(back):
        number = back[number]
    return reading.terms.equal(reading.whole(x), number)


def compared(reading: Reading, instruction: Instruction) -> Moved:
    """A comparison with zero, which is written as a power."""
    x, function = reading.value(instruction.operands[0]), _function(instruction.primitive)
    if x.names is None or function is None or function.name != EQUALS:
        return together(reading, instruction)
    back = inverse(x.names)
    if not isinstance(back, tuple):
        raise UnfollowedError("places of rows as numbers")
    return Moved(_equal(reading, x, back, 0), x.dims)


def passed(reading: Reading, instruction: Instruction) -> Moved:
    """The same integers."""
    x = reading.value(instruction.operands[0])
    if x.names is None or _name(instruction.primitive) != IDENTITY:
        return together(reading, instruction)
    return Moved(reading.made(instruction, [x]), x.dims, x.names)


def gathered(reading: Reading, instruction: Instruction) -> Moved:
    """Of entries in another order the same are picked by integers that are renamed accordingly."""
    primitive = instruction.primitive
    assert isinstance(primitive, p.Gather)
    x, rank = reading.value(instruction.operands[0]), len(instruction.operands[0].shape)
    dim = primitive.dim % rank
    if x.names is not None and dim in x.dims:
        raise UnfollowedError("renamed integers picked by renamed integers")
    listed = [sorted_list(v, reading.makers) if primitive.index.how == GROUPS else v for v in primitive.index.values]
    found = [reading.of(v) for v in listed]
    if len(found) != 1 or primitive.index.how not in ((), GROUPS) or primitive.function is None:
        reading.read_beside(primitive.function)
        if any(not v.plain for v in found) or dim in x.dims:
            raise UnfollowedError("several indices")
        index = Moved(-1)
    else:
        (index,) = found
    _picked(x.dims.get(dim), index.names, x.number)
    after = len(primitive.index_shape) - 1
    dims = {d if d < dim else d + after: order for d, order in x.dims.items() if d != dim}
    dims |= {dim + d: order for d, order in index.dims.items()}
    return Moved(reading.made(instruction, [x]), dims, x.names)


def _picked(order: Order | None, names: Order | None, number: bool = False) -> None:
    """Raises unless what is picked by these names of entries in this order is what was picked before."""
    if number or (order is None and names is None):
        return
    if order is None or names is None or composed(order, names) is not None:
        raise UnfollowedError("entries in another order are picked")


def resized(reading: Reading, instruction: Instruction) -> Moved:
    """A gather or a scatter along one dimension, as it is written: entries spread, then another size."""
    primitive, result = instruction.primitive, instruction.result
    assert isinstance(primitive, p.Resize)
    assert result is not None
    x = reading.value(instruction.operands[0])
    maker = reading.makers[instruction.operands[0].index].primitive
    if primitive.function is None or not isinstance(maker, p.Spread) or x.names is not None:
        return together(reading, instruction)
    named = [reading.of(reading.terms.data(name)) for name in primitive.function.data]
    if len(named) != 1:
        if not x.plain or not all(v.plain for v in named):
            raise UnfollowedError("several indices")
        return Moved(reading.made(instruction, [x]))
    (index,) = named
    dim = maker.dim % len(primitive.shape)
    dims = {d: order for d, order in x.dims.items() if d != dim}
    if index.dims and dict(index.dims) != dims:
        raise UnfollowedError("places in another order")
    if primitive.function.name == PUT:
        if dim in x.dims:
            raise UnfollowedError("entries in another order are put")
        if index.names is not None:
            dims[dim] = inverse(index.names)
    else:
        _picked(x.dims.get(dim), index.names, x.number)
    return Moved(reading.made(instruction, [x]), dims)


def spread(reading: Reading, instruction: Instruction) -> Moved:
    """What decides the places is read with the size that follows."""
    x = reading.value(instruction.operands[0])
    if getattr(instruction.primitive, "function", None) is not None and not x.plain:
        raise UnfollowedError("entries in places that the data decide")
    return Moved(reading.made(instruction, [x]), x.dims, x.names)


def masked(reading: Reading, instruction: Instruction) -> Moved:
    """Outside the places where something was put, which are where they were in its order."""
    if _name(instruction.primitive) != ELSEWHERE:
        return together(reading, instruction)
    x = reading.value(instruction.operands[0])
    function = _function(instruction.primitive)
    maker = reading.makers[instruction.operands[0].index].primitive
    if x.names is not None or function is None or not isinstance(maker, p.Resize) or _name(maker) != PUT:
        raise UnfollowedError("a mask of places")
    return Moved(reading.made(instruction, [x]), x.dims)


BY_DATA: dict[type, Callable[[Reading, Instruction], Moved]] = {
    p.Order: ordered,
    p.Positions: positions,
    p.Constant: computed,
    p.Gather: gathered,
    p.Scatter: scattered,
    p.Resize: resized,
    p.Spread: spread,
    p.Mask: masked,
    p.Power: compared,
    p.Homogeneous: passed,
}
