"""Rearrangements under other names: each is written as ones that have a rule already."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.rules.functions import outcome
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import flipped, reshape, take, transposed
from neuralmechanics.symmetry.lowering.rules.rearranging.pieces import split
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.lowering.sizes import known, meta_shape
from neuralmechanics.symmetry.program.attributes.views import Permute
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
    """Entry (i, j, …) is the one at ``offset + Σ i·stride`` in memory, which must hold x and nothing else."""
    base = node.args[0].meta["val"]  # type: ignore[union-attr]
    numbers = [known(n) for n in (*size, *stride, offset or 0, base.storage_offset(), *base.shape, *base.stride())]
    if None in numbers or (order := _memory_order(base)) is None:
        raise UnsupportedFormError("a view of memory that does not hold the tensor alone")
    if math.prod(meta_shape(node)) > LARGEST:
        raise NotSoughtError("which entries of memory are read is not followed in so large a tensor")
    in_order = d.view(x, Permute(order)) if order != tuple(range(len(order))) else x
    # A flat list of places would merge all dimensions, and with them the labels of rows and columns.
    apart = _dimension_by_dimension(d, in_order, size, stride, int(offset or 0)) if math.prod(size) else None
    if apart is not None:
        return apart
    places = [int(offset or 0)]
    for n, step in zip(size, stride, strict=True):
        places = [place + k * step for place in places for k in range(n)]
    if any(place >= math.prod(x.shape) for place in places):
        raise UnsupportedFormError("a view of memory beyond the tensor")
    return reshape(d, take(d, reshape(d, in_order, (math.prod(x.shape),)), 0, places), meta_shape(node))


def _memory_order(x: torch.Tensor) -> tuple[int, ...] | None:
    """The dimensions from the outermost in memory to the innermost; None where memory holds anything between entries.

    A dimension of one entry lies anywhere.
    """
    strides = x.stride()
    order = sorted((k for k, n in enumerate(x.shape) if n > 1), key=lambda k: -strides[k])
    after = [math.prod(x.shape[k] for k in order[place + 1 :]) for place in range(len(order))]
    if x.storage_offset() or [strides[k] for k in order] != after:
        return None
    return (*(k for k, n in enumerate(x.shape) if n == 1), *order)


def _dimension_by_dimension(
    d: Builder, x: Value, size: Sequence[int], stride: Sequence[int], offset: int
) -> Value | None:
    """The view as entries taken along each dimension of x by itself; None where steps in memory cross dimensions.

    Σ i·stride = Σ_k s_k·p_k, where s_k is the step of dimension k in memory and p_k a sum over dimensions of the view
    that stays within dimension k.
    """
    steps = [math.prod(x.shape[k + 1 :]) for k in range(len(x.shape))]
    owners: list[list[int]] = [[] for _ in steps]
    for dim, (n, step) in enumerate(zip(size, stride, strict=True)):
        owner = next((k for k, own in enumerate(steps) if x.shape[k] > 1 and own <= step and step % own == 0), None)
        if n > 1 and owner is None:
            return None
        if n > 1 and owner is not None:
            owners[owner].append(dim)
    for k, own in enumerate(steps):
        places = [offset // own % x.shape[k]]
        for dim in owners[k]:
            places = [place + j * stride[dim] // own for place in places for j in range(size[dim])]
        if max(places) >= x.shape[k]:
            return None
        if places != list(range(x.shape[k])):
            x = take(d, x, k, places)
    order = [dim for owned in owners for dim in owned]
    split = reshape(d, x, [size[dim] for dim in order])
    turned = d.view(split, Permute(tuple(sorted(range(len(order)), key=order.__getitem__))))
    return reshape(d, turned, size)


@rule("new_empty_strided", "empty_strided")
def unfilled(d: Builder, node: fx.Node, *_: object, **__: object) -> Value:
    """A new tensor: the values of what it is made like do not matter."""
    return d.constant(meta_shape(node), function=outcome(node))
