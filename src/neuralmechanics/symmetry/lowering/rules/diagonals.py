"""Diagonals: entries that two indices name together, read out of a matrix or written into one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import fx

from neuralmechanics.symmetry.lowering.rules.movement import reshape, take
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.lowering.sizes import meta_shape
from neuralmechanics.symmetry.program.refusals import UnsupportedFormError
from neuralmechanics.symmetry.program.views import Permute

LARGEST = 1 << 22  # entries of a matrix of which each has its own place


def places(rows: int, columns: int, offset: int) -> list[int]:
    """Row-major positions of a diagonal.

    >>> places(2, 3, 0), places(2, 3, 1), places(3, 2, -1)
    ([0, 4], [1, 5], [2, 5])
    """
    return [k * columns + k + offset for k in range(rows) if 0 <= k + offset < columns]


def _last(d: Any, x: Any, first: int, second: int) -> Any:
    """x with two of its dimensions brought to the end and joined into one."""
    rank = len(x.shape)
    first, second = first % rank, second % rank
    if x.shape[first] * x.shape[second] > LARGEST:
        raise UnsupportedFormError(f"a diagonal of {x.shape[first]} times {x.shape[second]} entries")
    rest = [k for k in range(rank) if k not in (first, second)]
    x = d.view(x, Permute((*rest, first, second)))
    return reshape(d, x, (*x.shape[:-2], math.prod(x.shape[-2:])))


@rule("diagonal", "linalg_diagonal", "diagonal_copy")
def diagonal(d: Any, node: fx.Node, x: Any, offset: int = 0, dim1: int = 0, dim2: int = 1, **kwargs: Any) -> Any:
    """x[…, k, k + offset] for every k, as the last dimension."""
    offset = kwargs.get("offset", offset)
    usual = (-2, -1) if "linalg" in str(node.target) else (dim1, dim2)
    first, second = kwargs.get("dim1", usual[0]), kwargs.get("dim2", usual[1])
    rows, columns = x.shape[first], x.shape[second]
    return take(d, _last(d, x, first, second), -1, places(rows, columns, offset))


@rule("trace")
def trace(d: Any, node: fx.Node, x: Any) -> Any:
    """Σ_k x[k, k]."""
    return d.reduce(take(d, _last(d, x, 0, 1), -1, places(x.shape[0], x.shape[1], 0)), (0,), False, False)


@rule("diag")
def diag(d: Any, node: fx.Node, x: Any, offset: int = 0) -> Any:
    """The diagonal of a matrix, or the matrix with a vector as its diagonal."""
    if len(x.shape) == 1:
        return embedded(d, x, offset, meta_shape(node))
    return take(d, _last(d, x, 0, 1), -1, places(x.shape[0], x.shape[1], offset))


@rule("diag_embed")
def diag_embed(d: Any, node: fx.Node, x: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """A matrix of zeros with the last dimension of x as its diagonal."""
    shape = meta_shape(node)
    rank = len(shape)
    dim1, dim2 = dim1 % rank, dim2 % rank
    rest = [k for k in range(rank) if k not in (dim1, dim2)]
    matrix = embedded(d, x, offset, (*(shape[k] for k in rest), shape[dim1], shape[dim2]))
    order = [*rest, dim1, dim2]
    return d.view(matrix, Permute(tuple(order.index(k) for k in range(rank))))


def embedded(d: Any, x: Any, offset: int, shape: Sequence[int]) -> Any:
    """Zeros of this shape, with the last dimension of x along the diagonal of the last two."""
    rows, columns = shape[-2:]
    if rows * columns > LARGEST:
        raise UnsupportedFormError(f"a diagonal of {rows} times {columns} entries")
    where = {place: k for k, place in enumerate(places(rows, columns, offset))}
    padded = d.zero_padded(x, len(x.shape) - 1, 0, 1, 0.0)
    zero = x.shape[-1]
    return reshape(d, take(d, padded, -1, [where.get(k, zero) for k in range(rows * columns)]), shape)


@rule("diagonal_scatter")
def diagonal_replaced(d: Any, node: fx.Node, x: Any, source: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
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
