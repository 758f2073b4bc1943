"""Along which dimensions of a weight its inputs stand: those over which sums of products run."""

from __future__ import annotations

from neuralmechanics.rewrite.actions.looking.centring_norms import moved
from neuralmechanics.slices import SliceView
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import dimension_groups
from neuralmechanics.symmetry.program.program import Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["input_axes", "kept_axis"]


def input_axes(program: Program) -> dict[str, frozenset[int]]:
    """For each parameter the dimensions that some sum of products sums."""
    readers = program.readers()

    def summed(value: Value, dim: int) -> bool:
        for read in readers.get(value.index, []):
            if isinstance(read.primitive, p.Contract):
                how = read.primitive.how
                side = how.x if read.operands[0] is value else how.y
                if side[dim] not in how.out and not any(side[dim] == w.kernel for w in how.windows):
                    return True
            elif isinstance(read.primitive, p.Rearrange) and read.result is not None:
                after = moved(read.primitive.view, value.shape, read.result.shape, dim)
                if after is not None and summed(read.result, after):
                    return True
        return False

    found = {}
    for instruction in program.instructions:
        value = instruction.result
        if isinstance(instruction.primitive, p.Parameter) and value is not None:
            axes = (d for d, n in enumerate(value.shape) if n > 1 and summed(value, d))
            found[instruction.primitive.name] = frozenset(axes)
    return found


def kept_axis(view: SliceView, shape: tuple[int, ...]) -> frozenset[int]:
    """The dimensions of the parameter itself of which the view keeps some or all."""
    if tuple(view.shape) == shape:
        return frozenset(view.kept)
    groups = dimension_groups(shape, view.shape)
    return frozenset(d for inside, outside in groups if set(outside) & set(view.kept) for d in inside)
