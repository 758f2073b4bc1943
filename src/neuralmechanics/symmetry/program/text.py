"""A program as text: one line an instruction, in the order in which it is interpreted.

A line reads ``%7: [2, 5, 4] = contract("az,yz->ay", %1, a.weight)``: the value, its shape, the primitive with its
settings, the operands. Parameters stand by their names. A value with ``%`` depends on a trainable parameter, one with
``#`` is data; data that one line alone reads stand in that line, by what the capture calls them, with their shape. In
brackets behind a primitive, as in ``homogeneous[relu]``, stands which function it is. ``≥ 0`` marks a value that is
never negative, ``≡ 0.0`` one that is filled with that number. Lines of one layer stand below its name, and the
operation that the first of them comes from at its end. A line without a value is a statement: ``fix`` says that its
operands may not change, as outputs may not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import pairwise
from typing import Any

from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.refusals import Reason
from neuralmechanics.symmetry.program.value import Value

__all__ = ["program_text"]

_OF_RUN = "result"  # what a run of the model gives, of which no more is known
_SHOWN = 6  # integers of a list that are written out


def program_text(program: Program) -> str:
    """The program as text, the same for the same program."""
    return "\n".join(_Printer(program).lines())


class _Printer:
    """Names of the values, given in the order in which they are printed."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.reads = Counter(value.index for i in program.instructions for value in i.operands)
        self.names: dict[int, str] = {}
        self.lines_named = 0

    def lines(self) -> Iterator[str]:
        """Parameters first, then the other instructions below the names of their layers."""
        leaves: list[Instruction] = []
        others: list[Instruction] = []
        for instruction in self.program.instructions:
            (leaves if isinstance(instruction.primitive, (p.Parameter, p.Unread)) else others).append(instruction)
        for instruction in leaves:
            yield self._leaf(instruction)
        place, operation = "", ""
        for instruction in others:
            if self._folded(instruction):
                continue
            cause = instruction.cause
            if cause.place != place:
                yield f"{cause.place}:"
            told = (cause.place, cause.operation) != (place, operation)
            place, operation = cause.place, cause.operation
            yield f"  {self._line(instruction)}" + (f"  # {operation}" if told else "")

    def _leaf(self, instruction: Instruction) -> str:
        primitive, result = instruction.primitive, instruction.result
        if isinstance(primitive, p.Parameter) and result is not None:
            self.names[result.index] = primitive.name
            return f"parameter {primitive.name}: {_shape(result.shape)}"
        return _call(primitive, [])

    def _folded(self, instruction: Instruction) -> bool:
        """Data that one line reads get no line of their own: they are named by what they are."""
        primitive, result = instruction.primitive, instruction.result
        if not isinstance(primitive, p.Constant) or result is None or self.reads[result.index] > 1:
            return False
        self.names[result.index] = f"{_data(primitive)} {_shape(result.shape)}"
        return True

    def _line(self, instruction: Instruction) -> str:
        primitive, result = instruction.primitive, instruction.result
        operands = [self.names[value.index] for value in instruction.operands]
        call = _data(primitive) if isinstance(primitive, p.Constant) else _call(primitive, operands)
        if result is None:
            return call
        self.names[result.index] = f"{'%' if result.depends else '#'}{self.lines_named}"
        self.lines_named += 1
        return f"{self.names[result.index]}: {_shape(result.shape)}{_known(primitive, result)} = {call}"


def _data(constant: p.Constant) -> str:
    """The number that fills it, what it is called in the captured graph, or how it is made of that."""
    if constant.number is not None:
        return repr(constant.number)
    function = constant.function
    if function is None:
        return "data"
    return ", ".join(function.data) if function.name == _OF_RUN and function.data else str(function)


def _known(primitive: p.Primitive, value: Value) -> str:
    """What is known of the value's entries."""
    if value.number is not None and not isinstance(primitive, p.Constant):
        return f" ≡ {value.number!r}"
    return " ≥ 0" if value.nonnegative and value.number is None else ""


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _call(primitive: p.Primitive, operands: list[str]) -> str:
    """The primitive applied: what it is named after and how it sums, the operands, the other settings by name."""
    name, of, first, settings = type(primitive).__name__, "", [], []
    for field, value in _settings(primitive):
        if isinstance(value, (Reshape, Permute, Expand, Take)):
            if isinstance(primitive, p.Rearrange):
                name = type(value).__name__
            settings += [f"{inner.name}={_written(part)}" for inner, part in _settings(value)]
        elif isinstance(value, (Contraction, str)):
            first.append(_written(value))
        elif isinstance(value, Function):
            of = f"[{value}]" if value.name != _OF_RUN else ""
        else:
            settings.append(f"{field.name}={_written(value)}")
    return f"{_words(name)}{of}({', '.join([*first, *operands, *settings])})"


def _settings(value: Any) -> Iterator[tuple[Field[Any], Any]]:
    """The fields that say more than the line does of the result, and something else than usual."""
    if not is_dataclass(value):
        return
    for field in fields(value):
        part = getattr(value, field.name)
        told = not field.repr or field.name in ("shape", "nonnegative")
        if not told and (field.default is MISSING or part != field.default):
            yield field, part


def _words(name: str) -> str:
    """The name of a class in lower case: AddNumber is add_number."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _written(value: Any) -> str:
    if isinstance(value, Contraction):
        windows = [f"{w.x} by {w.kernel} is {w.out} {w.geometry}" for w in value.windows]
        return f'"{"; ".join([f"{value.x},{value.y}->{value.out}", *windows])}"'
    if isinstance(value, Breaking):
        return f'"{value.constant} {value.value!r}"'
    if isinstance(value, Reason):
        return f'"{value.status}{": " if value.text else ""}{value.text}"'
    if isinstance(value, tuple) and all(isinstance(n, int) for n in value):
        return _integers(value)
    return repr(value) if isinstance(value, (int, float)) or value is None else str(value)


def _integers(numbers: tuple[int, ...]) -> str:
    """A list of integers: as a range where it is one, with its length where it is long.

    >>> _integers((0, 2, 4, 6)), _integers((3, 0)), _integers((0, 0, 1) * 1000)
    ('0:8:2', '[3, 0]', '[0, 0, 1, 0, 0, 1, … 3000 in all]')
    """
    steps = {b - a for a, b in pairwise(numbers)}
    if len(numbers) > 2 and len(steps) == 1 and (step := steps.pop()) > 0:
        return f"{numbers[0]}:{numbers[-1] + step}" + (f":{step}" if step > 1 else "")
    more = f", … {len(numbers)} in all" if len(numbers) > _SHOWN else ""
    return f"[{', '.join(map(str, numbers[:_SHOWN]))}{more}]"
