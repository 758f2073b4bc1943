"""Rearrangements of arrays that hold a tensor's trailing dimensions alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take
from neuralmechanics.symmetry.program.program import Instruction


def leads(maker: Instruction, arrays: Sequence[np.ndarray]) -> bool:
    """Whether a view moves leading dimensions alone, and leaves those of the channels where they are."""
    primitive, block = maker.primitive, arrays[0].ndim
    if not isinstance(primitive, p.Rearrange) or maker.result is None:
        return False
    before, after, view = maker.operands[0].shape, maker.result.shape, primitive.view
    if before[len(before) - block :] != after[len(after) - block :] or len(after) < block:
        return False
    kept = range(len(before) - block, len(before))
    if isinstance(view, Permute):
        return list(view.order[-block:]) == list(kept)
    if isinstance(view, Take):
        return view.dim not in kept
    return True


def rearranged(maker: Instruction, arrays: Sequence[np.ndarray]) -> np.ndarray | None:
    """What a rearrangement of the trailing dimensions makes of its operands' arrays; None if it is none."""
    primitive, result = maker.primitive, maker.result
    if result is None:
        return None
    if isinstance(primitive, p.Concatenate):
        place = primitive.dim % len(result.shape) - len(result.shape)
        ranks = {a.ndim for a in arrays}
        return np.concatenate(arrays, place) if len(ranks) == 1 and -place <= ranks.pop() else None
    if not isinstance(primitive, p.Rearrange):
        return None
    own, before, view = arrays[0], maker.operands[0].shape, primitive.view
    if isinstance(view, Take):
        place = view.dim - len(before)
        return own.take(view.positions, axis=place) if -place <= own.ndim else None
    if isinstance(view, Reshape):
        front = before[: len(before) - own.ndim]
        inside = result.shape[len(front) :]
        return own.reshape(inside) if result.shape[: len(front)] == front and len(inside) in (1, 2, 3) else None
    if isinstance(view, Expand) and result.shape[len(result.shape) - own.ndim :] != own.shape:
        return None
    return None
