"""The parts that a tensor was joined of, as they still lie one behind the other in what was made of it."""

from __future__ import annotations

from collections.abc import Mapping

from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.axes import axis_map
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["runs_along"]


def runs_along(program: Program, x: Value, dim: int) -> tuple[int, ...]:
    """The lengths of the parts that lie along a dimension, where entry k of all that was done since is that of entry k.

    Empty where no concatenation is behind x, or several of different parts.
    """
    made = {step.result.index: step for step in program.instructions if step.result is not None}
    return _runs(made, x, dim)


def _runs(made: Mapping[int, Instruction], x: Value, dim: int) -> tuple[int, ...]:
    step = made[x.index]
    if isinstance(step.primitive, p.Concatenate) and step.primitive.dim % len(x.shape) == dim:
        return tuple(part.shape[dim] for part in step.operands)
    found = set()
    for operand, axes in zip(
        step.operands, axis_map(step.primitive, [o.shape for o in step.operands], x.shape), strict=False
    ):
        # Data are met entry by entry, whatever parts they were joined of.
        if operand.depends and dim in axes:
            found.add(_runs(made, operand, axes.index(dim)))
    return found.pop() if len(found) == 1 else ()
