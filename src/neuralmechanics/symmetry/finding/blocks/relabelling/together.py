"""Relabeled values that meet entry by entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from neuralmechanics.symmetry.finding.blocks.relabelling.moved import Moved, Order, common
from neuralmechanics.symmetry.finding.blocks.relabelling.terms import Terms, UnfollowedError
from neuralmechanics.symmetry.program.attributes.function import RESULT, Function
from neuralmechanics.symmetry.program.axes import axis_map
from neuralmechanics.symmetry.program.program import Instruction
from neuralmechanics.symmetry.program.value import Value

__all__ = ["Reading", "orders_met", "together"]


@dataclass(eq=False)
class Reading:
    """One relabeling: ``moved``, by the index of each value that is not what it was; ``lost``: those not known."""

    terms: Terms
    moved: dict[int, Moved]
    lost: set[int] = field(default_factory=set)

    @property
    def makers(self) -> Mapping[int, Instruction]:
        """The instruction that makes each value."""
        return self.terms.makers

    def of(self, index: int) -> Moved:
        """What has become of a value."""
        if index in self.lost:
            raise UnfollowedError("what has become of it is not known")
        found = self.moved.get(index)
        return Moved(self.terms.of[index]) if found is None else found

    def value(self, x: Value) -> Moved:
        """The same of an operand, filled with one number or not."""
        if x.index in self.moved or x.index in self.lost:
            return self.of(x.index)
        return Moved(self.terms.of[x.index], number=x.constant_number() is not None)

    def term(self, index: int) -> int:
        """The term of a value whose entries stand where they stood."""
        moved = self.of(index)
        if moved.dims or moved.names is not None:
            raise UnfollowedError("an order that is not followed here")
        return self.whole(moved)

    def any_term(self, index: int) -> int:
        """The term of a value, whatever the order of its entries."""
        return self.whole(self.of(index))

    def whole(self, moved: Moved) -> int:
        """The term with all that is added to it."""
        return self.terms.number(("added", moved.term, tuple(moved.delta.items()))) if moved.delta else moved.term

    def made(self, instruction: Instruction, operands: list[Moved]) -> int:
        """The term that the instruction makes; what it reads beside operands stands where it stood."""
        return self.terms.made(instruction, self.any_term, [self.whole(x) for x in operands])

    def read_beside(self, function: Function | None, mask: int | None = None) -> None:
        """Raises for data beside the operands, other than a mask, with entries in another order or renamed."""
        if function is not None and function.name != RESULT:
            for place in map(self.terms.data, function.data):
                if place != mask:
                    self.term(place)


def together(reading: Reading, instruction: Instruction) -> Moved:
    """Dimensions that pass entry by entry keep their order; any other may have none."""
    primitive, result = instruction.primitive, instruction.result
    assert result is not None
    operands = [reading.value(x) for x in instruction.operands]
    function = getattr(primitive, "function", None)
    mask = getattr(primitive, "mask", None)
    reading.read_beside(function, mask)
    if any(x.names is not None for x in operands):
        raise UnfollowedError("renamed integers in a function")
    axes = axis_map(primitive, [x.shape for x in instruction.operands], result.shape)
    orders = orders_met(operands, instruction.operands, axes)
    if mask is not None:
        _masked(reading, mask, result.shape, orders)
    dims = {d: order for d, met in orders.items() if (order := common(met)) is not None}
    return Moved(reading.made(instruction, operands), dims)


def orders_met(
    parts: Sequence[Moved], values: Sequence[Value], axes: Sequence[Sequence[int | None]]
) -> dict[int, list[Order | None]]:
    """By dimension of a result the orders of what meets there; of entries that are one number any order is the same."""
    orders: dict[int, list[Order | None]] = {}
    for x, value, places in zip(parts, values, axes, strict=True):
        for d, n in enumerate(value.shape):
            to = places[d]
            if to is None and d in x.dims:
                raise UnfollowedError("a dimension that is not kept")
            if to is not None and n > 1 and not x.number:
                orders.setdefault(to, []).append(x.dims.get(d))
    return orders


def _masked(reading: Reading, mask: int, shape: tuple[int, ...], orders: dict[int, list[Order | None]]) -> None:
    moved, made = reading.of(mask), reading.makers[mask].result
    assert made is not None
    if moved.names is not None:
        raise UnfollowedError("renamed integers as a mask")
    front = len(shape) - len(made.shape)
    for d, n in enumerate(made.shape):
        if n > 1:
            orders.setdefault(front + d, []).append(moved.dims.get(d))
        elif d in moved.dims:
            raise UnfollowedError("a mask in another order")
