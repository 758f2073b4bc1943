"""Numbers that multiply what was divided by them before: 2·(W(x/2) + b/2) is Wx + b."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.program import Instruction, Location, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["with_undone_factors"]

_ROUNDING = 2.0**-51  # of a number and of one over it


@naming_the_operation
def with_undone_factors(program: Program) -> Program:
    """The program without factors that cancel, up to rounding; those between which anything else is read stay."""
    readers = {index: len(read) for index, read in program.readers().items()}
    writer, changed = _Factors(Tape(program.size()), readers), False
    for instruction in program.instructions:
        held = writer.tape.resolved(instruction)
        primitive, value = held.primitive, None
        if isinstance(primitive, p.Scale) and held.result is not None:
            value = writer.times(held.cause, held.operands[0], primitive.factor)
        if value is None or held.result is None:
            writer.tape.keep(held)
            continue
        writer.tape.put(held.result, value)
        changed = True
    return without_dead_values(writer.tape.program(program)) if changed else program


@dataclass(frozen=True, eq=False)
class _Cancelled:
    """factor·x is ``sign`` times what ``write`` writes."""

    sign: float
    write: Callable[[], Value]


@dataclass(frozen=True, eq=False)
class _Factors:
    tape: Tape
    readers: Mapping[int, int]

    def times(self, cause: Location, x: Value, factor: float) -> Value | None:
        """factor·x, where every way to it has the reciprocal factor up to its sign; None where one has not."""
        found = self._cancelled(x, factor)
        if found is None:
            return None
        value = found.write()
        return value if found.sign > 0 else self.tape.new(cause, p.Scale(-1.0), value)

    def _cancelled(self, x: Value, factor: float) -> _Cancelled | None:
        step = self.tape.made.get(x.index)
        if step is None or self.readers.get(x.index, 1) != 1:
            return None
        if isinstance(step.primitive, p.Scale):
            (before,), left = step.operands, factor * step.primitive.factor
            if abs(abs(left) - 1) <= _ROUNDING:
                return _Cancelled(1.0 if left > 0 else -1.0, lambda: before)
            return self._cancelled(before, left)
        for places in _linear_in(step):
            parts = [self._cancelled(step.operands[k], factor) for k in places]
            known = [part for part in parts if part is not None]
            # A sum takes operands of opposite signs in its scale; a concatenation has no place for one.
            if len(known) == len(parts) and (isinstance(step.primitive, p.Add) or len({k.sign for k in known}) == 1):
                return _Cancelled(known[0].sign, partial(self._written, step, dict(zip(places, known, strict=True))))
        return None

    def _written(self, step: Instruction, parts: Mapping[int, _Cancelled]) -> Value:
        """The step of what is left of its operands, less the sign of the first."""
        operands = [parts[k].write() if k in parts else x for k, x in enumerate(step.operands)]
        primitive = step.primitive
        if isinstance(primitive, p.Add):
            primitive = replace(primitive, scale=primitive.scale * parts[0].sign * parts[1].sign)
        return self.tape.new(step.cause, primitive, *operands)


def _linear_in(step: Instruction) -> tuple[tuple[int, ...], ...]:
    """Sets of operands that all take a factor, each of which gives it to the result."""
    if getattr(step.primitive, "function", None) is not None:
        return ()
    if isinstance(step.primitive, (p.Add, p.Concatenate)):
        return (tuple(range(len(step.operands))),)
    if isinstance(step.primitive, (p.Contract, p.Multiply)):
        return ((0,), (1,))
    linear = isinstance(step.primitive, (p.Rearrange, p.Reduce, p.Pad))
    return ((0,),) if linear else ()
