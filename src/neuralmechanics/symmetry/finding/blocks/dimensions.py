"""Which dimensions of the operands of an instruction are those of its result."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import dimension_groups
from neuralmechanics.symmetry.program.axes import axis_map
from neuralmechanics.symmetry.program.program import Instruction

__all__ = ["kept_dimensions", "reshaped_place"]


def kept_dimensions(instruction: Instruction) -> list[set[tuple[int, int]]]:
    """Dimensions of operands and result that are one."""
    primitive, result = instruction.primitive, instruction.result
    assert result is not None
    shapes = [x.shape for x in instruction.operands]
    groups: dict[object, set[tuple[int, int]]] = {}
    if isinstance(primitive, p.Contract):
        for x, letters in zip(instruction.operands, (primitive.how.x, primitive.how.y), strict=True):
            for d, letter in enumerate(letters):
                groups.setdefault(letter, set()).add((x.index, d))
        for d, letter in enumerate(primitive.how.out):
            groups.setdefault(letter, set()).add((result.index, d))
        return list(groups.values())
    if isinstance(primitive, (p.Softmax, p.Normalise, p.Spread, p.Order)) or (
        isinstance(primitive, p.Resize) and len(shapes[0]) == len(result.shape)
    ):
        same = [d for d, n in enumerate(result.shape) if n == shapes[0][d]]
        return [{(instruction.operands[0].index, d), (result.index, d)} for d in same]
    if isinstance(primitive, p.Constant):
        if primitive.elementwise:
            for x in instruction.operands:
                front = len(result.shape) - len(x.shape)
                for d, n in enumerate(x.shape):
                    if n > 1:
                        groups.setdefault(front + d, {(result.index, front + d)}).add((x.index, d))
        return list(groups.values())
    for x, places in zip(instruction.operands, axis_map(primitive, shapes, result.shape), strict=True):
        for d, to in enumerate(places):
            if to is not None:
                groups.setdefault(to, {(result.index, to)}).add((x.index, d))
    if isinstance(primitive, p.Scatter) and len(instruction.operands) == 2:
        dim = primitive.dim % len(result.shape)
        groups.setdefault(dim, {(result.index, dim)}).add((instruction.operands[0].index, dim))
    return list(groups.values())


def reshaped_place(
    before: Sequence[int], after: Sequence[int], place: tuple[int, int, int], target: int, count: int
) -> Iterator[tuple[int, int, int]]:
    """Where the experts are counted behind a reshape, if that leaves their number whole."""
    _, dim, stride = place
    for inside, outside in dimension_groups(before, after):
        if dim not in inside:
            continue
        inner = stride * math.prod(before[d] for d in inside[inside.index(dim) + 1 :])
        for k, d in enumerate(outside):
            behind = math.prod(after[e] for e in outside[k + 1 :])
            if inner % behind == 0 and after[d] % (inner // behind * count) == 0:
                yield target, d, inner // behind
                return
