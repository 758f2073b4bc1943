"""Slices before reshapes: one of three parts of a packed projection is cut out of it before it is seen as heads.

Reshaping 3·H·D channels to [3, H, D] and taking entry 0 is taking the first H·D channels and reshaping them to [H, D].
Said so, the parts are apart from the beginning.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Permute, Reshape, Take, View, dimension_groups
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["with_early_takes"]

_WRITTEN_OUT = 1 << 16  # entries of a dimension up to which slices of its parts are followed


@naming_the_operation
def with_early_takes(program: Program) -> Program:
    """The program in which entries are taken before dimensions are split and reordered; it computes the same."""
    writer = _Writer(program.makers(), program.size())
    for instruction in program.instructions:
        writer.write(instruction)
    return without_dead_values(replace(program, instructions=tuple(writer.out)))


@dataclass(eq=False)
class _Writer:
    makers: dict[int, Instruction]
    values: int
    out: list[Instruction] = field(default_factory=list)

    def write(self, instruction: Instruction) -> None:
        """The instruction, or the slice and the rearrangements that make the same."""
        primitive, result = instruction.primitive, instruction.result
        if not isinstance(primitive, p.Rearrange) or not isinstance(primitive.view, Take) or result is None:
            self.out.append(instruction)
            return
        base, take, views = self._earlier(instruction.operands[0], primitive.view)
        repeats = len(set(take.positions)) < len(take.positions)
        if repeats or not any(isinstance(view, Reshape) for view in views):
            self.out.append(instruction)
            return
        value = base
        for view in (take, *views[:-1]):
            made = replace(result, index=self.values, shape=tuple(view.output_shape(value.shape)))
            self.values += 1
            self.out.append(Instruction(p.Rearrange(view), (value,), made, instruction.cause))
            value = made
        # The last step makes the value itself, under the number by which later instructions read it.
        self.out.append(Instruction(p.Rearrange(views[-1]), (value,), result, instruction.cause))

    def _earlier(self, x: Value, take: Take) -> tuple[Value, Take, list[View]]:
        """What the entries can be taken of first, which they are there, and the rearrangements that follow."""
        views: list[View] = []
        while isinstance(primitive := self.makers[x.index].primitive, p.Rearrange):
            (before,) = self.makers[x.index].operands
            view = primitive.view
            moved: tuple[Take, View] | None = None
            if isinstance(view, Permute):
                moved = replace(take, dim=view.order[take.dim]), view
            elif isinstance(view, Reshape):
                moved = _before_reshape(take, before.shape, view.shape)
            if moved is None:
                break
            take, following = moved
            views.insert(0, following)
            x = before
        return x, take, views


def _before_reshape(take: Take, before: tuple[int, ...], after: tuple[int, ...]) -> tuple[Take, View] | None:
    """The entries of one dimension from which the taken ones come, and the reshape of them."""
    for inside, outside in dimension_groups(before, after):
        wide = [d for d in inside if before[d] > 1]
        if take.dim not in outside or len(wide) != 1 or before[wide[0]] > _WRITTEN_OUT:
            continue
        sizes = [after[d] for d in outside]
        places = np.arange(before[wide[0]]).reshape(sizes).take(take.positions, axis=outside.index(take.dim))
        shape = tuple(len(take.positions) if d == take.dim else n for d, n in enumerate(after))
        return Take(wide[0], tuple(places.reshape(-1).tolist())), Reshape(shape)
    return None
