"""Diagonals: entries that two indices name together, read out of a matrix or written into one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from neuralmechanics.symmetry.lowering.rules.functions import function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import reshape, take
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.lowering.sizes import meta_shape
from neuralmechanics.symmetry.program.attributes.views import Permute
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import UnsupportedFormError
from neuralmechanics.symmetry.program.value import Value

LARGEST = 1 << 22  # entries of a matrix of which each has its own place


def places(rows: int, columns: int, offset: int) -> list[int]:
    """Row-major positions of a diagonal.

    >>> places(2, 3, 0), places(2, 3, 1), places(3, 2, -1)
    ([0, 4], [1, 5], [2, 5])
    """
    return [k * columns + k + offset for k in range(rows) if 0 <= k + offset < columns]


def _last(d: Builder, x: Value, first: int, second: int) -> Value:
    """x with two of its dimensions brought to the end and joined into one."""
    rank = len(x.shape)
    first, second = first % rank, second % rank
    if x.shape[first] * x.shape[second] > LARGEST:
        raise UnsupportedFormError(f"a diagonal of {x.shape[first]} times {x.shape[second]} entries")
    rest = [k for k in range(rank) if k not in (first, second)]
    x = d.view(x, Permute((*rest, first, second)))
    return reshape(d, x, (*x.shape[:-2], math.prod(x.shape[-2:])))


@rule("diagonal", "diagonal_copy")
def diagonal(d: Builder, node: fx.Node, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """x[…, k, k + offset] for every k, as the last dimension."""
    return take(d, _last(d, x, dim1, dim2), -1, places(x.shape[dim1], x.shape[dim2], offset))


@rule("linalg_diagonal")
def diagonal_of_the_last(d: Builder, node: fx.Node, x: Value, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """The same, of the last two dimensions where none are named."""
    return diagonal(d, node, x, offset, dim1, dim2)


@rule("trace")
def trace(d: Builder, node: fx.Node, x: Value) -> Value:
    """Σ_k x[k, k]."""
    return d.reduce(take(d, _last(d, x, 0, 1), -1, places(x.shape[0], x.shape[1], 0)), (0,), False, False)


@rule("diag")
def diag(d: Builder, node: fx.Node, x: Value, offset: int = 0) -> Value:
    """The diagonal of a matrix, or the matrix with a vector as its diagonal."""
    if len(x.shape) == 1:
        return embedded(d, x, offset, meta_shape(node))
    return take(d, _last(d, x, 0, 1), -1, places(x.shape[0], x.shape[1], offset))


@rule("diag_embed")
def diag_embed(d: Builder, node: fx.Node, x: Value, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Value:
    """A matrix of zeros with the last dimension of x as its diagonal."""
    shape = meta_shape(node)
    rank = len(shape)
    dim1, dim2 = dim1 % rank, dim2 % rank
    rest = [k for k in range(rank) if k not in (dim1, dim2)]
    matrix = embedded(d, x, offset, (*(shape[k] for k in rest), shape[dim1], shape[dim2]))
    order = [*rest, dim1, dim2]
    return d.view(matrix, Permute(tuple(order.index(k) for k in range(rank))))


def embedded(d: Builder, x: Value, offset: int, shape: Sequence[int]) -> Value:
    """Zeros of this shape, with the last dimension of x along the diagonal of the last two: x_i δ_ij."""
    rows, columns = shape[-2:]
    padded = d.zero_padded(x, len(x.shape) - 1, -offset, 0) if offset < 0 else x
    padded = d.zero_padded(padded, len(x.shape) - 1, 0, offset) if offset > 0 else padded
    unit = function_of("diagonal", lambda: _unit(rows, columns, offset), settings=(rows, columns, offset))
    there = d.constant((rows, columns), nonnegative=True, function=unit)
    return d.mul(reshape(d, padded, (*padded.shape, 1)), there)


def _unit(rows: int, columns: int, offset: int) -> Tensor:
    """One along the diagonal, zero elsewhere."""
    return torch.ones(rows, columns, dtype=torch.float64).tril(offset).triu(offset)


@rule("diagonal_scatter")
def diagonal_replaced(
    d: Builder, node: fx.Node, x: Value, source: Value, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Value:
    """x with a diagonal replaced by the last dimension of the source."""
    rank = len(x.shape)
    dim1, dim2 = dim1 % rank, dim2 % rank
    rows, columns = x.shape[dim1], x.shape[dim2]
    flat = _last(d, x, dim1, dim2)
    where = {place: flat.shape[-1] + k for k, place in enumerate(places(rows, columns, offset))}
    both = d.cat([flat, source], rank - 2)
    order = [*(k for k in range(rank) if k not in (dim1, dim2)), dim1, dim2]
    replaced = take(d, both, -1, [where.get(k, k) for k in range(rows * columns)])
    full = reshape(d, replaced, [x.shape[k] for k in order])
    return d.view(full, Permute(tuple(order.index(k) for k in range(rank))))
