"""A program written anew, one instruction after the other: what stands for which value, and new values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.facts import is_nonnegative, number_of
from neuralmechanics.symmetry.program.program import Instruction, Location, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["Tape"]


@dataclass(eq=False)
class Tape:
    """``size``: the index of the next new value. ``made``: for each value that was written, its instruction."""

    size: int
    out: list[Instruction] = field(default_factory=list)
    made: dict[int, Instruction] = field(default_factory=dict)
    _stands: dict[int, Value] = field(default_factory=dict)

    def resolved(self, instruction: Instruction) -> Instruction:
        """The instruction with the values that stand for its operands."""
        # What stands for a value is itself in terms of what was written before, so that one look-up is enough.
        return replace(instruction, operands=tuple(self._stands.get(x.index, x) for x in instruction.operands))

    def keep(self, instruction: Instruction) -> None:
        """Writes an instruction of the program as it is."""
        if instruction.result is not None:
            self.made[instruction.result.index] = instruction
        self.out.append(instruction)

    def put(self, result: Value, value: Value) -> None:
        """``value`` stands for ``result`` in all that follows."""
        self._stands[result.index] = value

    def new(self, cause: Location, primitive: p.Primitive, *xs: Value) -> Value:
        """The value of a new instruction."""
        shape = primitive.output_shape(*(x.shape for x in xs))
        assert shape is not None
        known = number_of(primitive, xs), is_nonnegative(primitive, xs)
        value = Value(self.size, shape, any(x.depends for x in xs), *known)
        self.size += 1
        self.keep(Instruction(primitive, xs, value, cause))
        return value

    def program(self, before: Program) -> Program:
        """What has been written, with all else that is said of the program before."""
        return replace(before, instructions=tuple(self.out))
