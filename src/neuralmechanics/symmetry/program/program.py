"""A model as a straight line of typed primitives, and the values that they pass on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from neuralmechanics.symmetry.program.primitives import Primitive

__all__ = ["Instruction", "Location", "Program", "Value", "flat_values", "is_value"]


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the program. ``depends``: a trainable parameter reaches it."""

    index: int
    shape: tuple[int, ...]
    depends: bool


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
    """

    instructions: tuple[Instruction, ...]
    numbers: frozenset[int] = field(default=frozenset())

    def last_uses(self) -> Mapping[int, list[int]]:
        """For each instruction, the indices of the values that nothing after it reads."""
        last: dict[int, int] = {}
        for number, instruction in enumerate(self.instructions):
            for value in (*instruction.operands, *([instruction.result] if instruction.result else [])):
                last[value.index] = number
        ends: dict[int, list[int]] = {}
        for index, number in last.items():
            ends.setdefault(number, []).append(index)
        return ends


def is_value(x: Any) -> bool:
    """Whether x stands for a tensor of the program."""
    return isinstance(x, Value)


def flat_values(value: Any) -> list[Value]:
    """Every value in a nest of arguments."""
    if isinstance(value, Value):
        return [value]
    parts: Iterable[Any] = ()
    if isinstance(value, (tuple, list)):
        parts = value
    elif isinstance(value, Mapping):
        parts = value.values()
    return [v for part in parts for v in flat_values(part)]
