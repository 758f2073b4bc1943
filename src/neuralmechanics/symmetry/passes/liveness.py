"""Which instructions matter: those whose results something reads, and statements about what something reads."""

from __future__ import annotations

from dataclasses import replace

from neuralmechanics.symmetry.passes.faults import naming_the_operation
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.program import Program

__all__ = ["without_dead_values"]


@naming_the_operation
def without_dead_values(program: Program) -> Program:
    """The program without instructions whose results nothing reads; what reads a parameter but they is no use of it."""
    read: set[int] = set()
    kept = []
    for instruction in reversed(program.instructions):
        primitive, result = instruction.primitive, instruction.result
        if result is not None and result.index not in read:
            continue
        if isinstance(primitive, p.Pair) and any(x.index not in read for x in instruction.operands):
            continue  # a statement about a rotation that nothing reads
        read.update(x.index for x in instruction.operands)
        kept.append(instruction)
    return replace(program, instructions=tuple(reversed(kept)))
