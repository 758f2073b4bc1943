"""Tensors cut into pieces, and pieces joined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.rules.functions import bound, function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import moved, reshape, take
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.lowering.sizes import known, meta_shape, shape_of, size_of
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.runs import runs_along
from neuralmechanics.symmetry.program.value import Value, is_value


@rule("slice")
def sliced(
    d: Builder, node: fx.Node, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    bounds = [None if bound is None else known(bound) for bound in (start, end)]
    if any(bound is not None and at is None for bound, at in zip((start, end), bounds, strict=True)):
        return d.resized(d.spread_along(x, dim % len(x.shape)), meta_shape(node), bound(node))  # that the data decide
    positions = range(x.shape[dim])[bounds[0] : bounds[1] : step]
    return x if len(positions) == x.shape[dim] else take(d, x, dim, positions)


@rule("narrow")
def narrowed(d: Builder, node: fx.Node, x: Value, dim: int, start: Any, length: int) -> Value:
    if is_value(start) or known(start) is None or known(length) is None:
        d.fix(*([start] if is_value(start) else []))
        return d.resized(d.spread_along(x, dim % len(x.shape)), meta_shape(node), bound(node))
    return take(d, x, dim, range(start % max(1, x.shape[dim]), start % max(1, x.shape[dim]) + length))


@rule("select")
def selected(d: Builder, node: fx.Node, x: Value, dim: int, index: Value) -> Value:
    dim %= len(x.shape)
    at = known(index)
    if at is None:  # a place that the data decide
        deciding = [index] if is_value(index) else []
        d.fix(*deciding)
        place = function_of("at", torch.as_tensor, node.args[2])
        return d.gather(x, dim, (), deciding, place, ("at", str(node.args[2])))
    one = take(d, x, dim, [at % x.shape[dim]])
    return reshape(d, one, [n for k, n in enumerate(one.shape) if k != dim])


@rule("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_chunk", "unsafe_split")
def split(d: Builder, node: fx.Node, x: Value, size: Any, dim: int = 0) -> tuple[Any, ...]:
    dim %= len(x.shape)
    sizes = [size_of(part.shape[dim]) for part in node.meta["val"]]
    decided = all(known(part.shape[dim]) is not None for part in node.meta["val"])
    # A tensor that was joined of parts of just these lengths falls into the same parts again.
    if not decided and runs_along(d.program(), x, dim) != tuple(sizes):  # the data decide where a part ends
        return tuple(d.resized(d.spread_along(x, dim), shape_of(part)) for part in node.meta["val"])
    starts = accumulate(sizes, initial=0)
    return tuple(take(d, x, dim, range(start, start + n)) for start, n in zip(starts, sizes, strict=False))


@rule("unbind")
def unbound(d: Builder, node: fx.Node, x: Value, dim: int = 0) -> tuple[Any, ...]:
    return tuple(selected(d, node, x, dim, index) for index in range(x.shape[dim]))


@rule("unfold")
def slid(d: Builder, node: fx.Node, x: Value, dim: int, size: int, step: int) -> Value:
    """All windows of ``size`` entries along a dimension, ``step`` apart; the entries of a window come last."""
    dim %= len(x.shape)
    starts = range(0, x.shape[dim] - size + 1, step)
    windows = take(d, x, dim, [start + k for start in starts for k in range(size)])
    windows = reshape(d, windows, (*x.shape[:dim], len(starts), size, *x.shape[dim + 1 :]))
    return moved(d, windows, dim + 1, len(x.shape))


@rule("cat", "concat", "concatenate")
def concatenated(d: Builder, node: fx.Node, xs: Sequence[Any], dim: int = 0) -> Value:
    # torch leaves out empty vectors, whatever the shapes of the others are.
    kept = [x for x in xs if tuple(x.shape) != (0,)]
    return d.cat(kept, dim % len(kept[0].shape))


@rule("stack")
def stacked(d: Builder, node: fx.Node, xs: Sequence[Any], dim: int = 0) -> Value:
    dim %= len(xs[0].shape) + 1
    lifted = [reshape(d, x, (*x.shape[:dim], 1, *x.shape[dim:])) for x in xs]
    return d.cat(lifted, dim)


@rule("hstack", "column_stack")
def hstacked(d: Builder, node: fx.Node, xs: Sequence[Any]) -> Value:
    """Side by side: vectors one behind the other, or as the columns of a matrix."""
    if "column_stack" in str(node.target):
        xs = [reshape(d, x, (math.prod(x.shape), 1)) if len(x.shape) < 2 else x for x in xs]
    else:
        xs = [reshape(d, x, x.shape or (1,)) for x in xs]
    return d.cat(xs, 0 if len(xs[0].shape) == 1 else 1)


@rule("block_diag")
def block_diagonal(d: Builder, node: fx.Node, xs: Sequence[Value]) -> Value:
    """Matrices along the diagonal of a larger one: the sum of each among zeros; a vector is a row."""
    rows, columns = meta_shape(node)
    total: Value | None = None
    above = before = 0
    for x in xs:
        block = reshape(d, x, (1,) * (2 - len(x.shape)) + tuple(x.shape))
        height, width = block.shape
        wide = d.zero_padded(block, 1, before, columns - before - width)
        placed = d.zero_padded(wide, 0, above, rows - above - height)
        total = placed if total is None else d.add(total, placed)
        above, before = above + height, before + width
    return d.constant((rows, columns), 0.0) if total is None else total
