"""Sums and products as plain as they can be written: no signs that cancel, no dimensions of one entry on the way.

x - (-b) is x + b; a batch of one product is a product; and a parameter that is reshaped, permuted and broadcast along
dimensions of one entry is the parameter where a sum broadcasts it all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.passes.normal_forms.plain_products import kept_dimensions, of_parameter, plain_product
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take, View
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
                value = plain_product(self.tape, held)
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
        # One of the two alone: each was measured against the other as it is, which gives the sum its shape.
        x, y = (x, narrow) if narrow is not y else (self._narrowest(x, y.shape, result.shape), y)
        lowered = self._before_ones(held.cause, x, y, scale)
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
            if not fits or not of_parameter(self.tape, before) or np.broadcast_shapes(before.shape, beside) != out:
                break
            x = before
        return x

    def _before_ones(self, cause: Location, x: Value, y: Value, scale: float) -> Value | None:
        """The sum of a product, before it was given dimensions of one entry, and of a parameter without these."""
        for one, other in ((x, y), (y, x)):
            maker = self._maker(one)
            if maker is None or not isinstance(maker.primitive, p.Rearrange):
                continue
            before = maker.operands[0]
            product, kept = self._maker(before), kept_dimensions(before.shape, one.shape)
            front = len(one.shape) - len(other.shape)
            if product is None or not isinstance(product.primitive, p.Contract) or kept is None or front < 0:
                continue
            seen = (*(1,) * front, *other.shape)
            if not of_parameter(self.tape, other) or any(n > 1 and d not in kept for d, n in enumerate(seen)):
                continue
            plain = self._reshaped(cause, other, tuple(seen[d] for d in kept))
            return self.tape.new(cause, p.Add(scale), *((before, plain) if one is x else (plain, before)))
        return None

    def _reshaped(self, cause: Location, x: Value, shape: Shape) -> Value:
        """A parameter's entries in this shape, less the dimensions of one entry in front."""
        while len(shape) > 1 and shape[0] == 1:
            shape = shape[1:]
        base = self._in_order(x)
        return base if base.shape == shape else self.tape.new(cause, p.Rearrange(Reshape(shape)), base)

    # --- parameters -----------------------------------------------------------------------------------------------

    def _parameter(self, held: Instruction, result: Value) -> Value | None:
        """A parameter of which the entries stay in their order, as one reshape or as it is."""
        (x,), primitive = held.operands, held.primitive
        if isinstance(primitive, p.Rearrange) and (same := self._same(x, primitive.view, result.shape)) is not None:
            return same
        if not _keeps_order(primitive, x.shape) or not of_parameter(self.tape, x):
            return None
        base = self._in_order(x)
        if base.shape == result.shape:
            return base
        plain = base is x and isinstance(primitive, p.Rearrange) and isinstance(primitive.view, Reshape)
        return None if plain else self.tape.new(held.cause, p.Rearrange(Reshape(result.shape)), base)

    def _same(self, x: Value, view: View, shape: Shape) -> Value | None:
        """What a rearrangement gives back as it was."""
        if isinstance(view, Permute) or (isinstance(view, Take) and view.positions != tuple(range(x.shape[view.dim]))):
            return x if isinstance(view, Permute) and view.order == tuple(range(len(shape))) else None
        base = self._in_order(x) if isinstance(view, Reshape) else x
        return base if base.shape == shape else None

    def _in_order(self, x: Value) -> Value:
        """What x is, in the same order of entries, before all that keeps it."""
        while (maker := self._maker(x)) is not None and maker.operands:
            if not _keeps_order(maker.primitive, maker.operands[0].shape):
                break
            x = maker.operands[0]
        return x


def _keeps_order(primitive: p.Primitive, shape: Shape) -> bool:
    """Whether all entries stay, in their order: a reshape, or only dimensions of one entry move or are summed."""
    if isinstance(primitive, p.Reduce):
        return primitive.function is None and all(shape[d] == 1 for d in primitive.dims)
    if not isinstance(primitive, p.Rearrange):
        return False
    if isinstance(primitive.view, Permute):
        wide = [d for d in primitive.view.order if shape[d] > 1]
        return wide == sorted(wide)
    return isinstance(primitive.view, Reshape)
