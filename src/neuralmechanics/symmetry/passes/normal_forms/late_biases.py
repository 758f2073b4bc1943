"""Biases added last: (x + b) + y as (x + y) + b, so that b meets all that is added up, as in parallel branches."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["with_late_biases"]


@naming_the_operation
def with_late_biases(program: Program, biases: Collection[str]) -> Program:
    """The program with these parameters added behind the other terms of a sum; it computes the same.

    A sum that anything else reads stays as it is, with its bias within.
    """
    writer = _Writer(program.makers(), _only_read_once(program), frozenset(biases), program.size())
    for instruction in program.instructions:
        writer.write(instruction)
    return without_dead_values(replace(program, instructions=tuple(writer.out)))


def _only_read_once(program: Program) -> frozenset[int]:
    """The values that one operand of one instruction is."""
    counts: dict[int, int] = {}
    for instruction in program.instructions:
        for x in instruction.operands:
            counts[x.index] = counts.get(x.index, 0) + 1
    outputs = {x.index for i in program.instructions if i.result is None for x in i.operands}
    return frozenset(index for index, count in counts.items() if count == 1 and index not in outputs)


@dataclass(eq=False)
class _Writer:
    makers: dict[int, Instruction]
    inner: frozenset[int]
    biases: frozenset[str]
    values: int
    out: list[Instruction] = field(default_factory=list)
    parts: dict[int, tuple[Value, tuple[Value, ...]]] = field(default_factory=dict)  # a sum as the rest, and biases

    def write(self, instruction: Instruction) -> None:
        """The instruction, or sums in which biases come last."""
        result = instruction.result
        if not isinstance(instruction.primitive, p.Add) or instruction.primitive.scale != 1 or result is None:
            self.out.append(instruction)
            return
        x, y = instruction.operands
        if self._is_bias(y) != self._is_bias(x):
            rest, bias = (x, y) if self._is_bias(y) else (y, x)
            before, late = self._apart(rest)
            if rest.shape == result.shape:
                self.parts[result.index] = before, (*late, bias)
        else:
            (first, one), (second, two) = self._apart(x), self._apart(y)
            if one or two:
                total = replace(result, index=self.values)
                self.values += 1
                self.out.append(replace(instruction, operands=(first, second), result=total))
                self._add(instruction, total, (*one, *two))
                self.parts[result.index] = total, (*one, *two)
                return
        self.out.append(instruction)

    def _apart(self, x: Value) -> tuple[Value, tuple[Value, ...]]:
        """What is added up but biases, and these; all of it where the sum is read elsewhere, too."""
        return self.parts.get(x.index, (x, ())) if x.index in self.inner else (x, ())

    def _add(self, instruction: Instruction, total: Value, biases: tuple[Value, ...]) -> None:
        """Adds the biases in turn; the last sum is the instruction's own result."""
        assert instruction.result is not None
        for number, bias in enumerate(biases):
            last = number == len(biases) - 1
            made = instruction.result if last else replace(total, index=self.values)
            self.values += 0 if last else 1
            self.out.append(replace(instruction, operands=(total, bias), result=made))
            total = made

    def _is_bias(self, x: Value) -> bool:
        while isinstance((maker := self.makers[x.index]).primitive, p.Rearrange):
            (x,) = maker.operands
        return isinstance(maker.primitive, p.Parameter) and maker.primitive.name in self.biases
