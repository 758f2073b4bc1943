"""Sums of relabeled values: what is missing of one part may come back with a later one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neuralmechanics.symmetry.finding.blocks.relabelling.moved import Moved, added, common
from neuralmechanics.symmetry.finding.blocks.relabelling.terms import UnfollowedError
from neuralmechanics.symmetry.finding.blocks.relabelling.together import Reading, orders_met
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.axes import axis_map
from neuralmechanics.symmetry.program.program import Instruction

__all__ = ["SUMS", "accumulated"]


def summed(reading: Reading, instruction: Instruction) -> Moved:
    """x + c·y is what it was, and what its parts gained: y₀ and y₁ exchanged, x + y₀ is x + y₀ + (y₁ - y₀)."""
    primitive, result = instruction.primitive, instruction.result
    assert isinstance(primitive, p.Add)
    assert result is not None
    parts = [reading.value(x) for x in instruction.operands]
    if any(x.names is not None for x in parts):
        raise UnfollowedError("renamed integers in a sum")
    axes = axis_map(primitive, [x.shape for x in instruction.operands], result.shape)
    orders = orders_met(parts, instruction.operands, axes)
    dims = {d: order for d, met in orders.items() if (order := common(met)) is not None}
    if not any(x.delta for x in parts) and reading.terms.is_own(term := reading.made(instruction, parts)):
        return Moved(term, dims)  # a sum that the model has elsewhere, as another expert's
    changes = []
    for x, value, times in zip(parts, instruction.operands, (1.0, primitive.scale), strict=True):
        changes.append(accumulated(x, reading.terms.of[value.index], times))
    return Moved(reading.terms.of[result.index], dims, None, added(c for part in changes for c in part))


def accumulated(x: Moved, own: int, times: float = 1.0) -> list[tuple[int, float]]:
    """What a part of a sum has become, less what it was."""
    change = [(x.term, times), (own, -times)] if x.term != own else []
    return change + [(term, times * n) for term, n in x.delta.items()]


SUMS: dict[type, Callable[[Reading, Instruction], Any]] = {p.Add: summed}
