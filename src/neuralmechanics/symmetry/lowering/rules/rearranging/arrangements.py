"""Rearrangements under other names: each is written as ones that have a rule already."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import fx

from neuralmechanics.symmetry.lowering.rules.functions import outcome
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import flipped, reshape, take, transposed
from neuralmechanics.symmetry.lowering.rules.rearranging.pieces import split
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.lowering.sizes import known, meta_shape
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import NotSoughtError, UnsupportedFormError
from neuralmechanics.symmetry.program.value import Value

LARGEST = 1 << 22  # entries that are picked one by one


@rule("fliplr", "flipud")
def mirrored(d: Builder, node: fx.Node, x: Value) -> Any:
    """The columns, or the rows, in the other order."""
    return flipped(d, node, x, [1 if "fliplr" in str(node.target) else 0])


@rule("rot90")
def rotated(d: Builder, node: fx.Node, x: Value, k: int = 1, dims: Sequence[int] = (0, 1)) -> Any:
    """A turn by k right angles in the plane of two dimensions, from the first towards the second."""
    first, second = (dim % len(x.shape) for dim in dims)
    if k % 4 == 2:
        return flipped(d, node, x, [first, second])
    if k % 4 == 1:
        return transposed(d, node, flipped(d, node, x, [second]), first, second)
    return flipped(d, node, transposed(d, node, x, first, second), [second]) if k % 4 else x


@rule("hsplit", "vsplit", "dsplit")
def split_along(d: Builder, node: fx.Node, x: Value, sizes: Value) -> tuple[Any, ...]:
    """Parts along the second, the first or the third dimension."""
    name = str(node.target)
    dim = 0 if "vsplit" in name or len(x.shape) == 1 else 2 if "dsplit" in name else 1
    parts: tuple[Any, ...] = split(d, node, x, sizes, dim)
    return parts


@rule("vstack", "row_stack", "dstack")
def stacked_along(d: Builder, node: fx.Node, xs: Sequence[Any]) -> Value:
    """Tensors one behind the other along the first or the third dimension, which fewer dimensions are widened to."""
    deep = "dstack" in str(node.target)
    return d.cat([reshape(d, x, _widened(x.shape, deep)) for x in xs], 2 if deep else 0)


def _widened(shape: Sequence[int], deep: bool) -> Sequence[int]:
    """A row for one dimension, one entry for none; ``deep``: with a third dimension of one entry."""
    flat = (*(1 for _ in range(2 - len(shape))), *shape)
    return (*flat, 1) if deep and len(flat) == 2 else flat


@rule("ravel")
def flat(d: Builder, node: fx.Node, x: Value) -> Value:
    """All entries in one row."""
    return reshape(d, x, meta_shape(node))


@rule("as_strided", "as_strided_copy")
def strided(
    d: Builder, node: fx.Node, x: Value, size: Sequence[int], stride: Sequence[int], offset: int | None = None
) -> Value:
    """Entry (i, j, …) is the one at ``offset + Σ i·stride`` in memory, which must hold x in order and nothing else."""
    base = node.args[0].meta["val"]  # type: ignore[union-attr]
    numbers = [known(n) for n in (*size, *stride, offset or 0, base.storage_offset())]
    if None in numbers or not base.is_contiguous() or base.storage_offset():
        raise UnsupportedFormError("a view of memory that does not hold the tensor in order")
    if math.prod(meta_shape(node)) > LARGEST:
        raise NotSoughtError("which entries of memory are read is not followed in so large a tensor")
    places = [int(offset or 0)]
    for n, step in zip(size, stride, strict=True):
        places = [place + k * step for place in places for k in range(n)]
    if any(place >= math.prod(x.shape) for place in places):
        raise UnsupportedFormError("a view of memory beyond the tensor")
    return reshape(d, take(d, reshape(d, x, (math.prod(x.shape),)), 0, places), meta_shape(node))


@rule("new_empty_strided", "empty_strided")
def unfilled(d: Builder, node: fx.Node, *_: object, **__: object) -> Value:
    """A new tensor: the values of what it is made like do not matter."""
    return d.constant(meta_shape(node), function=outcome(node))
