"""Sums and products as plain as they can be written: no signs that cancel, no dimensions of one entry on the way.

x - (-b) is x + b; a batch of one product is a product; and a parameter that is reshaped, permuted and broadcast along
dimensions of one entry is the parameter where a sum broadcasts it all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape
from neuralmechanics.symmetry.program.program import Instruction, Location, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["with_plain_sums"]

Shape = tuple[int, ...]


@naming_the_operation
def with_plain_sums(program: Program) -> Program:
    """The program with sums and products in their plain form; it computes the same."""
    writer = _Writer(Tape(program.size()))
    for instruction in program.instructions:
        writer.write(instruction)
    return without_dead_values(writer.tape.program(program)) if writer.changed else program


@dataclass(eq=False)
class _Writer:
    tape: Tape
    changed: bool = False

    def write(self, instruction: Instruction) -> None:
        """The instruction, or what it amounts to."""
        held = self.tape.resolved(instruction)
        primitive, result, value = held.primitive, held.result, None
        if result is not None and result.depends:
            if isinstance(primitive, p.Add):
                value = self._sum(held, primitive, result)
            elif isinstance(primitive, p.Contract):
                value = self._product(held, primitive, result)
            elif isinstance(primitive, (p.Rearrange, p.Reduce)):
                value = self._parameter(held, result)
        if value is None or result is None:
            self.tape.keep(held)
            return
        self.tape.put(result, value)
        self.changed = True

    def _maker(self, x: Value) -> Instruction | None:
        return self.tape.made.get(x.index)

    # --- sums -----------------------------------------------------------------------------------------------------

    def _sum(self, held: Instruction, primitive: p.Add, result: Value) -> Value | None:
        """x + s·y without a factor that s undoes, of operands without entries that the sum repeats all the same."""
        (x, y), scale = held.operands, primitive.scale
        maker = self._maker(y)
        if maker is not None and isinstance(maker.primitive, p.Scale) and scale * maker.primitive.factor == 1:
            y, scale = maker.operands[0], 1.0
        narrow = self._narrowest(y, x.shape, result.shape)
        x, y = (x, narrow) if narrow is not y else (self._narrowest(x, y.shape, result.shape), y)
        lowered = self._without_front(held.cause, x, y, scale)
        if lowered is not None:
            return self.tape.new(held.cause, p.Rearrange(Reshape(result.shape)), lowered)
        if (x, y) == held.operands and scale == primitive.scale:
            return None
        return self.tape.new(held.cause, p.Add(scale), x, y)

    def _narrowest(self, x: Value, beside: Shape, out: Shape) -> Value:
        """The parameter behind x, rearranged or not, where the sum broadcasts it to the same."""
        while (maker := self._maker(x)) is not None and isinstance(maker.primitive, p.Rearrange):
            view, before = maker.primitive.view, maker.operands[0]
            front = len(x.shape) - len(before.shape)
            padded = isinstance(view, Reshape) and front > 0 and x.shape == (*(1,) * front, *before.shape)
            fits = padded or isinstance(view, Expand)
            if not fits or not self._of_parameter(before) or np.broadcast_shapes(before.shape, beside) != out:
                break
            x = before
        return x

    def _of_parameter(self, x: Value) -> bool:
        while (maker := self._maker(x)) is not None and isinstance(maker.primitive, p.Rearrange):
            x = maker.operands[0]
        return maker is not None and isinstance(maker.primitive, p.Parameter)

    def _without_front(self, cause: Location, x: Value, y: Value, scale: float) -> Value | None:
        """The sum of a product, before it was given a first dimension of one entry, and of a vector."""
        for one, other in ((x, y), (y, x)):
            maker = self._maker(one)
            if maker is None or not isinstance(maker.primitive, p.Rearrange) or len(other.shape) > 1:
                continue
            before, view = maker.operands[0], maker.primitive.view
            product = self._maker(before)
            if product is None or not isinstance(product.primitive, p.Contract) or not isinstance(view, Reshape):
                continue
            if view.shape == (1, *before.shape) and len(before.shape) > 1:
                pair = (before, other) if one is x else (other, before)
                return self.tape.new(cause, p.Add(scale), *pair)
        return None

    # --- products -------------------------------------------------------------------------------------------------

    def _product(self, held: Instruction, primitive: p.Contract, result: Value) -> Value | None:
        """The sum of products without a first dimension of one entry that both factors and the result have."""
        how, (x, y) = primitive.how, held.operands
        letter = how.out[:1]
        if not letter or how.windows or primitive.function is not None or how.x[0] != letter or how.y[0] != letter:
            return None
        if x.shape[0] != 1 or y.shape[0] != 1 or len(how.out) < 2 or len(how.x) < 2 or len(how.y) < 2:
            return None
        plain = p.Contract(Contraction(how.x[1:], how.y[1:], how.out[1:]))
        made = self.tape.new(held.cause, plain, *(self._first(held.cause, v) for v in (x, y)))
        return self.tape.new(held.cause, p.Rearrange(Reshape(result.shape)), made)

    def _first(self, cause: Location, x: Value) -> Value:
        """x without its first dimension, which has one entry."""
        maker = self._maker(x)
        reshaped = maker is not None and isinstance(maker.primitive, p.Rearrange)
        before = maker.operands[0] if maker is not None and reshaped else x
        if before.shape == x.shape[1:] and self._keeps_order(maker.primitive if maker else None, before.shape):
            return before
        return self.tape.new(cause, p.Rearrange(Reshape(x.shape[1:])), x)

    # --- parameters -----------------------------------------------------------------------------------------------

    def _parameter(self, held: Instruction, result: Value) -> Value | None:
        """A parameter of which the entries stay in their order, as one reshape or as it is."""
        (x,), primitive = held.operands, held.primitive
        if not self._keeps_order(primitive, x.shape) or not self._of_parameter(x):
            return None
        base = x
        while (maker := self._maker(base)) is not None and maker.operands:
            if not self._keeps_order(maker.primitive, maker.operands[0].shape):
                break
            base = maker.operands[0]
        if base is x and isinstance(primitive, p.Rearrange) and isinstance(primitive.view, Reshape):
            return None if x.shape != result.shape else x
        return (
            base if base.shape == result.shape else self.tape.new(held.cause, p.Rearrange(Reshape(result.shape)), base)
        )

    def _keeps_order(self, primitive: p.Primitive | None, shape: Shape) -> bool:
        """Whether all entries stay, in their order: a reshape, or only dimensions of one entry move or are summed."""
        if isinstance(primitive, p.Reduce):
            return primitive.function is None and all(shape[d] == 1 for d in primitive.dims)
        if not isinstance(primitive, p.Rearrange):
            return False
        if isinstance(primitive.view, Permute):
            wide = [d for d in primitive.view.order if shape[d] > 1]
            return wide == sorted(wide)
        return isinstance(primitive.view, Reshape)
