"""Instructions whose result reaches no statement: nothing in them can matter to an output."""

from __future__ import annotations

from dataclasses import replace

from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.program import Program

__all__ = ["unread_values", "without"]


def unread_values(program: Program) -> frozenset[int]:
    """Indices of the values that no statement depends on; parameters count as read."""
    needed: set[int] = set()
    unread: set[int] = set()
    # Statements are the roots: they have no result, and all that they read is needed.
    for instruction in reversed(program.instructions):
        result = instruction.result
        if result is None or result.index in needed or isinstance(instruction.primitive, p.Parameter):
            needed.update(x.index for x in instruction.operands)
        else:
            unread.add(result.index)
    return frozenset(unread)


def without(program: Program, values: frozenset[int]) -> Program:
    """The program without the instructions that make some values, which nothing else may read."""
    kept = tuple(i for i in program.instructions if i.result is None or i.result.index not in values)
    return replace(program, instructions=kept)
