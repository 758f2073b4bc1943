"""Softmax however it is written: exponentials over their sum, logarithms of such sums, differences from those.

With Z = Σ_k exp(x_k) along some dimensions, three identities are looked for, each exact for all x: exp(x)/Z is
softmax(x), also after what is linear in exp(x) has been done to it (a product with values); x - log Z is
log_softmax(x); log Z is x_0 - log_softmax(x)_0. Besides, exp(log_softmax(x)) is softmax(x), exp(c log y) is y^c, and
softmax does not see what is constant along its dimension. Which exponentials belong to which sum is read off the
numbers of their values (``equal_values``) and off the dimensions along which each was kept, summed or repeated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from neuralmechanics.symmetry.passes.facts.equal_values import equal_values
from neuralmechanics.symmetry.passes.facts.exponential_sums import (
    PowerOfSum,
    Weighted,
    aligned,
    constant_along,
    has_logarithm,
    moved,
    viewed,
)
from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.unread import unread_values, without
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take
from neuralmechanics.symmetry.program.facts import is_nonnegative, number_of
from neuralmechanics.symmetry.program.program import Instruction, Location, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["with_softmaxes"]


@naming_the_operation
def with_softmaxes(program: Program) -> Program:
    """The program with every softmax that it writes out as one, and without what only led there."""
    if not any(isinstance(i.primitive, (p.Exponential, p.Softmax)) for i in program.instructions):
        return program
    written = _Softmaxes(program)
    for instruction in program.instructions:
        written.take(instruction)
    out = replace(program, instructions=tuple(written.out))
    return without(out, unread_values(out) - unread_values(program))


class _Softmaxes:
    """What is known of each value by its index, and the instructions of the program that comes of it."""

    def __init__(self, program: Program) -> None:
        self.equal = equal_values(program)
        self.out: list[Instruction] = []
        self.size = program.size()
        self.made: dict[int, Instruction] = {}
        self.weighted: dict[int, Weighted] = {}
        self.inverses: dict[int, PowerOfSum] = {}
        self.logarithms: dict[int, PowerOfSum] = {}
        self.refined: dict[int, Value] = {}

    # --- writing ------------------------------------------------------------------------------------------------

    def take(self, instruction: Instruction) -> None:
        """The instruction as it is, or what it amounts to."""
        operands = tuple(self.refined.get(x.index, x) for x in instruction.operands)
        instruction = replace(instruction, operands=operands)
        primitive, result = instruction.primitive, instruction.result
        if result is None or not result.depends:
            self._keep(instruction)
        elif isinstance(primitive, p.Exponential):
            self._exponential(instruction, result)
        elif isinstance(primitive, p.Logarithm):
            self._logarithm(instruction, result)
        elif isinstance(primitive, p.Softmax) and primitive.function is None:
            x = self._less_constants(operands[0], frozenset({primitive.dim % len(operands[0].shape)}))
            self._keep(replace(instruction, operands=(x,)))
        elif not self._divided(instruction) and not self._subtracted(instruction):
            self._keep(instruction)
            self._follow(instruction, result)

    def _keep(self, instruction: Instruction) -> None:
        """Writes it, with what is known of its result by the operands that it has now."""
        primitive, result = instruction.primitive, instruction.result
        if result is not None:
            if not result.nonnegative and is_nonnegative(primitive, instruction.operands):
                result = self.refined[result.index] = replace(result, nonnegative=True)
                instruction = replace(instruction, result=result)
            self.made[result.index] = instruction
            self.equal.setdefault(result.index, result.index)
        self.out.append(instruction)

    def _new(self, cause: Location, primitive: p.Primitive, *xs: Value) -> Value:
        """The value of a new instruction."""
        shape = primitive.output_shape(*(x.shape for x in xs))
        assert shape is not None
        known = number_of(primitive, xs), is_nonnegative(primitive, xs)
        value = Value(self.size, shape, any(x.depends for x in xs), *known)
        self.size += 1
        self._keep(Instruction(primitive, xs, value, cause))
        return value

    def _same(self, x: Value, y: Value) -> bool:
        return self.equal[x.index] == self.equal[y.index]

    # --- the five identities --------------------------------------------------------------------------------------

    def _exponential(self, instruction: Instruction, result: Value) -> None:
        """Of a log_softmax, of a multiple of a logarithm, of -log Z, or of something else."""
        (x,) = instruction.operands
        made, log, power = self.made.get(x.index), self.logarithms.get(x.index), self._power_of(x)
        if made is not None and isinstance(made.primitive, p.Softmax) and made.primitive.log and _plain(made.primitive):
            self._keep(replace(instruction, primitive=p.Softmax(made.primitive.dim), operands=made.operands))
        elif power is not None and power[1] == 1:
            self.refined[result.index] = power[0]
        elif power is not None:
            self._keep(replace(instruction, primitive=p.Power(power[1]), operands=power[:1]))
        else:
            self._keep(instruction)
            if log is not None and log.times == -1:
                self.inverses[result.index] = log
            elif log is None:
                self.weighted[result.index] = Weighted(x, tuple(range(len(x.shape))), frozenset(), 1.0)

    def _power_of(self, x: Value) -> tuple[Value, float] | None:
        """(y, c) where x is c·log(y)."""
        factor = 1.0
        made = self.made.get(x.index)
        while made is not None and isinstance(made.primitive, p.Scale):
            factor *= made.primitive.factor
            made = self.made.get(made.operands[0].index)
        if made is None or not isinstance(made.primitive, p.Logarithm):
            return None
        return made.operands[0], factor

    def _logarithm(self, instruction: Instruction, result: Value) -> None:
        """log(factor·Z) = x_0 - log_softmax(x)_0 + log(factor), laid out as Z is."""
        total, cause = self.weighted.get(instruction.operands[0].index), instruction.cause
        if total is None or not has_logarithm(total) or self._joined(total.x, total.summed) is None:
            self._keep(instruction)
            return
        value = self._log_of_sum(cause, total)
        order = [d for d in total.axes if d is not None]
        rest = [d for d in range(len(value.shape)) if d not in order]
        value = self._new(cause, p.Rearrange(Permute((*order, *rest))), value)
        single = tuple(1 if d is None else total.x.shape[d] for d in total.axes)
        value = self._new(cause, p.Rearrange(Reshape(single)), value)
        self._keep(replace(instruction, primitive=p.Rearrange(Expand(result.shape)), operands=(value,)))
        if total.summed:
            self.logarithms[result.index] = PowerOfSum(total)

    def _log_of_sum(self, cause: Location, total: Weighted) -> Value:
        """log(factor·Z) in the dimensions of x, with one entry along those that are summed."""
        value = total.x
        if total.summed:
            joined, dim = self._join(cause, total.x, total.summed)
            normalised = self._new(cause, p.Softmax(dim, log=True), joined)
            one, other = (self._new(cause, p.Rearrange(Take(dim, (0,))), v) for v in (joined, normalised))
            shape = tuple(1 if d in total.summed else n for d, n in enumerate(total.x.shape))
            value = self._new(cause, p.Rearrange(Reshape(shape)), self._new(cause, p.Add(-1.0), one, other))
        factor = total.factor or 1.0
        return value if factor == 1 else self._new(cause, p.AddNumber(math.log(factor)), value)

    def _divided(self, instruction: Instruction) -> bool:
        """L(exp(x))/(factor·Z) = L(softmax(x))/factor for linear L."""
        primitive, result = instruction.primitive, instruction.result
        if not isinstance(primitive, p.Multiply) or primitive.function is not None or result is None:
            return False
        for one, other in (instruction.operands, instruction.operands[::-1]):
            weighted, inverse = self.weighted.get(one.index), self.inverses.get(other.index)
            if weighted is None or inverse is None or not aligned(weighted, inverse.sum, one, other):
                continue
            total = inverse.sum
            if not self._same(weighted.x, total.x) or self._joined(total.x, total.summed) is None:
                continue
            if one.shape != result.shape or not total.factor or not total.summed:
                continue
            rebuilt = self._rebuilt(instruction.cause, one, total.summed, {})
            if total.factor != 1:
                rebuilt = self._new(instruction.cause, p.Scale(1 / total.factor), rebuilt)
            self.refined[result.index] = rebuilt
            return True
        return False

    def _rebuilt(self, cause: Location, value: Value, dims: frozenset[int], done: dict[int, Value]) -> Value:
        """What the value is with softmax(x) in the place of exp(x)."""
        made = self.made[value.index]
        if isinstance(made.primitive, p.Exponential):
            return self._softmax(cause, made.operands[0], dims, False)
        if value.index not in done:
            held = next(k for k, x in enumerate(made.operands) if x.index in self.weighted)
            operands = list(made.operands)
            operands[held] = self._rebuilt(cause, operands[held], dims, done)
            done[value.index] = self._new(cause, made.primitive, *operands)
        return done[value.index]

    def _subtracted(self, instruction: Instruction) -> bool:
        """x - log Z = log_softmax(x)."""
        primitive, result = instruction.primitive, instruction.result
        if not isinstance(primitive, p.Add) or result is None:
            return False
        (one, other), scale = instruction.operands, primitive.scale
        for x, y, of_x, of_y in ((one, other, 1.0, scale), (other, one, scale, 1.0)):
            log = self.logarithms.get(y.index)
            if log is None or not self._same(x, log.sum.x) or (of_x, of_y * log.times) != (1.0, -1.0):
                continue
            own = Weighted(log.sum.x, tuple(range(len(x.shape))), frozenset(), None)
            fits = x.shape == result.shape and aligned(own, log.sum, x, y)
            if not fits or log.sum.factor != 1 or self._joined(log.sum.x, log.sum.summed) is None:
                continue
            self.refined[result.index] = self._softmax(instruction.cause, x, log.sum.summed, True)
            return True
        return False

    def _softmax(self, cause: Location, x: Value, dims: frozenset[int], log: bool) -> Value:
        """Softmax over some dimensions, which are joined into one for it."""
        joined, dim = self._join(cause, self._less_constants(x, dims), dims)
        value = self._new(cause, p.Softmax(dim, log), joined)
        return value if len(dims) == 1 else self._new(cause, p.Rearrange(Reshape(x.shape)), value)

    def _joined(self, x: Value, dims: frozenset[int]) -> tuple[tuple[int, ...], int] | None:
        """The shape of x with some dimensions, side by side, as one, and which that is; None where they are not."""
        if not dims:
            return x.shape, 0
        first, last = min(dims), max(dims)
        if last - first + 1 != len(dims):
            return None
        return (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :]), first

    def _join(self, cause: Location, x: Value, dims: frozenset[int]) -> tuple[Value, int]:
        joined = self._joined(x, dims)
        assert joined is not None
        shape, dim = joined
        return (x if len(dims) == 1 else self._new(cause, p.Rearrange(Reshape(shape)), x)), dim

    def _less_constants(self, x: Value, dims: frozenset[int]) -> Value:
        """x without summands that have one entry along the dimensions of a softmax, which does not see them."""
        made = self.made.get(x.index)
        while made is not None and isinstance(made.primitive, p.Add):
            one, other = made.operands
            if one.shape == x.shape and constant_along(other, x, dims):
                x = one
            elif made.primitive.scale == 1 and other.shape == x.shape and constant_along(one, x, dims):
                x = other
            else:
                break
            made = self.made.get(x.index)
        return x

    # --- following exponentials -----------------------------------------------------------------------------------

    def _follow(self, instruction: Instruction, result: Value) -> None:
        """What becomes of sums of exponentials, of their inverses and of their logarithms."""
        primitive, operands = instruction.primitive, instruction.operands
        held = [x for x in operands if x.index in self.weighted]
        if len(held) == 1:
            found = moved(self.weighted[held[0].index], primitive, operands, held[0], result)
            if found is not None:
                self.weighted[result.index] = found
        if isinstance(primitive, p.Power) and primitive.exponent == -1 and primitive.function is None and held:
            total = self.weighted[held[0].index]
            if total.factor and total.summed:
                self.inverses[result.index] = PowerOfSum(total)
        if isinstance(primitive, p.Rearrange):
            for table in (self.inverses, self.logarithms):
                known = table.get(operands[0].index)
                if known is None:
                    continue
                axes = viewed(known.sum.axes, primitive.view, operands[0].shape, result.shape)
                if axes is not None:
                    table[result.index] = replace(known, sum=replace(known.sum, axes=axes))
        if isinstance(primitive, p.Scale) and (known := self.logarithms.get(operands[0].index)):
            self.logarithms[result.index] = replace(known, times=known.times * primitive.factor)
        if isinstance(primitive, p.Add) and primitive.scale == -1:
            own = self._first_less_normalised(operands)
            if own is not None:
                self.logarithms[result.index] = PowerOfSum(own)

    def _first_less_normalised(self, operands: Sequence[Value]) -> Weighted | None:
        """Z where the operands are one entry of x and the same entry of log_softmax(x)."""
        one, other = (self.made.get(v.index) for v in operands)
        if one is None or other is None or one.primitive != other.primitive:
            return None
        if not isinstance(one.primitive, p.Rearrange):
            return None
        view, x, y = one.primitive.view, one.operands[0], self.made.get(other.operands[0].index)
        if not isinstance(view, Take) or len(view.positions) != 1 or y is None:
            return None
        normalised = y.primitive
        if not isinstance(normalised, p.Softmax) or not normalised.log or not _plain(normalised):
            return None
        if normalised.dim % len(x.shape) != view.dim or not self._same(x, y.operands[0]):
            return None
        axes = tuple(None if d == view.dim else d for d in range(len(x.shape)))
        return Weighted(x, axes, frozenset({view.dim}), 1.0)


def _plain(softmax: p.Softmax) -> bool:
    """Whether it is the softmax of all entries."""
    return softmax.function is None
