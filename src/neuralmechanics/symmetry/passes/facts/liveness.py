"""Which instructions matter: those whose results something reads, and statements about what something reads."""

from __future__ import annotations

from dataclasses import replace

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Take
from neuralmechanics.symmetry.program.program import Instruction, Program

__all__ = ["without_dead_values"]


@naming_the_operation
def without_dead_values(program: Program) -> Program:
    """The program without instructions whose results nothing reads.

    A parameter that nothing else reads stays, with the statement that no output depends on its entries.
    """
    read: set[int] = set()
    kept = []
    # Backwards: what reads a value has been kept or dropped before the instruction that makes it is met.
    for instruction in reversed(program.instructions):
        primitive, result = instruction.primitive, instruction.result
        if result is not None and result.index not in read:
            if isinstance(primitive, p.Parameter) and result.shape:
                every = Take(0, tuple(range(result.shape[0])))
                kept += [Instruction(p.Unread(primitive.name, every), (), None, instruction.cause), instruction]
            continue
        if isinstance(primitive, p.Pair) and any(x.index not in read for x in instruction.operands):
            continue  # a statement about a rotation that nothing reads
        read.update(x.index for x in instruction.operands)
        kept.append(instruction)
    return replace(program, instructions=tuple(reversed(kept)))
