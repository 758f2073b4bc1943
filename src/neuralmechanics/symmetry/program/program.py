"""A model as a straight line of typed primitives, and the values that they pass on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neuralmechanics.symmetry.program.conditions import Condition
from neuralmechanics.symmetry.program.primitives import Primitive
from neuralmechanics.symmetry.program.value import Value

__all__ = ["Instruction", "Location", "Program"]


@dataclass(frozen=True)
class Location:
    """Where an instruction comes from: the number of the operation in the captured graph, its name, its layer."""

    number: int
    operation: str
    place: str

    def __str__(self) -> str:
        return f"{self.operation} at {self.place}"


@dataclass(frozen=True)
class Instruction:
    """``result = primitive(operands)``; a statement has no result."""

    primitive: Primitive
    operands: tuple[Value, ...]
    result: Value | None
    cause: Location


@dataclass(frozen=True)
class Program:
    """Instructions in an order in which each reads only what stands before it.

    ``numbers``: indices of values that are made of the model's own numbers (buffers, tables) alone.
    ``conditions``: what the program holds for, as the rules say.
    """

    instructions: tuple[Instruction, ...]
    numbers: frozenset[int] = field(default=frozenset())
    conditions: tuple[Condition, ...] = ()

    def to_text(self) -> str:
        """One line an instruction, with shapes, parameters and the place in the model (see ``program.text``)."""
        from neuralmechanics.symmetry.program.text import program_text

        return program_text(self)

    def __str__(self) -> str:
        return self.to_text()

    def size(self) -> int:
        """One more than the greatest index of a value."""
        return 1 + max((i.result.index for i in self.instructions if i.result is not None), default=-1)

    def makers(self) -> dict[int, Instruction]:
        """For the index of each value, the instruction that makes it."""
        return {i.result.index: i for i in self.instructions if i.result is not None}

    def readers(self) -> dict[int, list[Instruction]]:
        """For the index of each value, the instructions that read it."""
        found: dict[int, list[Instruction]] = {}
        for instruction in self.instructions:
            # As a set, so that x·x counts as one reader of x.
            for index in {value.index for value in instruction.operands}:
                found.setdefault(index, []).append(instruction)
        return found

    def last_uses(self) -> Mapping[int, list[int]]:
        """For each instruction, the indices of the values that nothing after it reads."""
        last: dict[int, int] = {}
        for number, instruction in enumerate(self.instructions):
            # A result that nothing reads ends with the instruction that makes it, or it would be held to the end.
            for value in (*instruction.operands, *([instruction.result] if instruction.result else [])):
                last[value.index] = number
        ends: dict[int, list[int]] = {}
        for index, number in last.items():
            ends.setdefault(number, []).append(index)
        return ends
