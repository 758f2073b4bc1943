"""The gains of a program: vectors that multiply channels; what is then added to these, and what reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["Gain", "gains_of"]

_KEEPS = (p.Rearrange, p.Scale, p.AddNumber)  # what a gain may go through before it multiplies


@dataclass(frozen=True)
class Gain:
    """A vector γ that multiplies channels, in one place or in several; ``bias``: what is then added to them in each.

    ``into``: weights of all the sums of products that read γ·x with nothing but linear operations between;
    ``behind``: those that make x so. None where something else is met: ``end``, the operation that reads γ·x then.
    """

    name: str
    operation: str
    bias: str | None
    into: frozenset[str] | None
    behind: frozenset[str] | None
    end: str = ""


def gains_of(program: Program) -> tuple[Gain, ...]:
    """All vectors of parameters that multiply channels of what the data make, in the order of the program."""
    walk = _Walk(program)
    found = []
    for instruction in program.instructions:
        if isinstance(instruction.primitive, p.Multiply) and instruction.result is not None:
            gain = walk.gain(instruction)
            found += [gain] if gain is not None else []
    each: dict[str, list[Gain]] = {}
    for gain in found:
        each.setdefault(gain.name, []).append(gain)
    return tuple(_together(uses) for uses in each.values())


def _together(uses: list[Gain]) -> Gain:
    """One gain in several places: what reads it in any of them."""
    first = uses[0]
    if len(uses) == 1:
        return first
    into = [gain.into for gain in uses if gain.into is not None]
    return Gain(
        first.name,
        first.operation,
        first.bias if all(gain.bias == first.bias for gain in uses) else None,
        frozenset().union(*into) if len(into) == len(uses) else None,
        None,
        next((gain.end for gain in uses if gain.end), ""),
    )


class _Walk:
    def __init__(self, program: Program) -> None:
        self.makers, self.readers = program.makers(), program.readers()
        self.pure = _made_of_parameters(program)

    def gain(self, instruction: Instruction) -> Gain | None:
        for vector, other in (instruction.operands, instruction.operands[::-1]):
            name = self.vector(vector)
            if name is None or other.index in self.pure or instruction.result is None:
                continue
            result = instruction.result
            behind, into = self.behind(other), self.into(result)
            end = "" if into is not None else self.end(result)
            return Gain(name, str(instruction.cause), self.bias(result), into, behind, end)
        return None

    def vector(self, value: Value) -> str | None:
        """The parameter, with one dimension that is longer than one, that the value is made of alone."""
        maker = self.makers.get(value.index)
        while maker is not None and isinstance(maker.primitive, _KEEPS):
            maker = self.makers.get(maker.operands[0].index)
        if maker is None or not isinstance(maker.primitive, p.Parameter):
            return None
        shape = maker.primitive.shape
        return maker.primitive.name if sum(n > 1 for n in shape) == 1 or math.prod(shape) == 1 else None

    def bias(self, value: Value) -> str | None:
        """What is added to a value that nothing else reads."""
        read = self.readers.get(value.index, [])
        if len(read) != 1:
            return None
        only = read[0]
        if isinstance(only.primitive, p.Rearrange) and only.result is not None:
            return self.bias(only.result)
        if not isinstance(only.primitive, p.Add) or only.primitive.scale != 1:
            return None
        return next((name for x in only.operands if x is not value and (name := self.vector(x)) is not None), None)

    def into(self, value: Value) -> frozenset[str] | None:
        """The weights that read the value, all of them through linear operations."""
        found: set[str] = set()
        for read in self.readers.get(value.index, []):
            names: frozenset[str] | None = None
            if isinstance(read.primitive, p.Contract):
                weights = [self.weight(x) for x in read.operands if x is not value]
                names = frozenset(w for w in weights if w is not None) if None not in weights and weights else None
            elif self.linear(read, value) and read.result is not None:
                names = self.into(read.result)
            if names is None:
                return None
            found |= names
        return frozenset(found) or None

    def behind(self, value: Value) -> frozenset[str] | None:
        """The weights and biases that make the value, all of them through linear operations."""
        maker = self.makers.get(value.index)
        if maker is None:
            return None
        if isinstance(maker.primitive, p.Contract):
            weights = [w for x in maker.operands if (w := self.weight(x)) is not None]
            return frozenset(weights) or None
        if isinstance(maker.primitive, (p.Rearrange, p.Scale, p.Noise)):
            return self.behind(maker.operands[0])
        if isinstance(maker.primitive, p.Add):
            parts = [
                frozenset({name}) if (name := self.vector(x)) is not None else self.behind(x) for x in maker.operands
            ]
            return frozenset().union(*(part for part in parts if part)) if None not in parts else None
        return None

    def end(self, value: Value) -> str:
        """The first operation behind the value that is neither linear nor a sum of products with a weight."""
        for read in self.readers.get(value.index, []):
            if isinstance(read.primitive, p.Contract) and any(self.weight(x) for x in read.operands if x is not value):
                continue
            if self.linear(read, value) and read.result is not None:
                found = self.end(read.result)
            else:
                found = f"the output of {read.cause}" if isinstance(read.primitive, p.Fix) else str(read.cause)
            if found:
                return found
        return ""

    def linear(self, read: Instruction, value: Value) -> bool:
        if isinstance(read.primitive, (p.Rearrange, p.Add, p.Scale, p.Noise)):
            return True
        others = [x for x in read.operands if x is not value]
        return isinstance(read.primitive, p.Multiply) and len(others) == 1 and not others[0].depends

    def weight(self, value: Value) -> str | None:
        maker = self.makers.get(value.index)
        while maker is not None and isinstance(maker.primitive, (*_KEEPS, p.Gather)):
            maker = self.makers.get(maker.operands[0].index)
        return maker.primitive.name if maker is not None and isinstance(maker.primitive, p.Parameter) else None


def _made_of_parameters(program: Program) -> frozenset[int]:
    """Values that no data enter."""
    known: set[int] = set()
    for instruction in program.instructions:
        if instruction.result is None:
            continue
        primitive = instruction.primitive
        if isinstance(primitive, p.Constant):
            own = primitive.number is not None
        else:
            picks = isinstance(primitive, p.Gather)  # by data
            own = isinstance(primitive, p.Parameter) or (bool(instruction.operands) and not picks)
        if own and all(x.index in known for x in instruction.operands):
            known.add(instruction.result.index)
    return frozenset(known)
