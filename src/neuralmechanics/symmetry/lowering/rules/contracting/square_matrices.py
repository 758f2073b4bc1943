"""Determinants and inverses of square matrices, and solutions of linear systems.

With a_ij = r_i c_j ã_ij, where r is the first column and c the first row divided by the corner, det a = Πr Πc det ã and
a⁻¹ = diag(c)⁻¹ ã⁻¹ diag(r)⁻¹. Scaling rows and columns leaves ã as it is; what else leaves it is not looked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from neuralmechanics.symmetry.lowering.rules.contracting.contractions import product
from neuralmechanics.symmetry.lowering.rules.elementwise import of_sign
from neuralmechanics.symmetry.lowering.rules.functions import ABSOLUTE, function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import meta_shape, moved, reshape, take
from neuralmechanics.symmetry.lowering.rules.reducing.order_statistics import product_along
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import Reason
from neuralmechanics.symmetry.program.value import Value


@dataclass(frozen=True, eq=False)
class _Evened:
    """A matrix without the scales of its rows and columns; and these, in one column and in one row."""

    matrix: Value
    rows: Value
    columns: Value


def _evened(d: Builder, x: Value, row: int = 0) -> _Evened:
    """By the first column and by that row, of which no entry may be known to be zero."""
    rows = take(d, x, -1, [0])
    columns = d.mul(take(d, x, -2, [row % x.shape[-2]]), d.power(take(d, rows, -2, [row % x.shape[-2]]), -1.0))
    matrix = d.mul(x, d.mul(d.power(rows, -1.0), d.power(columns, -1.0)))
    d.fix(matrix, reason=Reason("not sought", str(d.cause), "other bases of a square matrix are not followed"))
    return _Evened(matrix, rows, columns)


def _determinant(d: Builder, x: Value) -> Value:
    """The determinants of the last two dimensions."""
    batch = x.shape[:-2]
    if not x.shape[-1]:
        return d.constant(batch, 1.0)
    evened = _evened(d, x)
    own = d.ended(batch, function_of("det", torch.linalg.det), evened.matrix)
    rows, columns = product_along(d, evened.rows, len(batch)), product_along(d, evened.columns, len(batch) + 1)
    return d.mul(own, d.mul(reshape(d, rows, batch), reshape(d, columns, batch)))


@rule("det", "linalg_det")
def determinant(d: Builder, node: fx.Node, x: Value) -> Value:
    return _determinant(d, x)


@rule("logdet")
def log_determinant(d: Builder, node: fx.Node, x: Value) -> Value:
    return d.logarithm(_determinant(d, x))


@rule("slogdet", "linalg_slogdet")
def sign_and_log_determinant(d: Builder, node: fx.Node, x: Value) -> tuple[Value, Value]:
    value = _determinant(d, x)
    return of_sign(d, value, function_of("sign", torch.sgn)), d.logarithm(d.homogeneous(value, True, ABSOLUTE))


def _inverse(d: Builder, x: Value, row: int = 0) -> Value:
    evened = _evened(d, x, row)
    own = d.ended(x.shape, _INVERSE, evened.matrix)
    across, down = (moved(d, d.power(v, -1.0), -1, -2) for v in (evened.rows, evened.columns))
    return d.mul(own, d.mul(down, across))


_INVERSE = Function("inverse", torch.linalg.inv)


@rule("inverse", "linalg_inv")
def inverse(d: Builder, node: fx.Node, x: Value) -> Value:
    return _inverse(d, x) if x.shape[-1] else x


@rule("linalg_solve")
def solution(d: Builder, node: fx.Node, x: Value, y: Value, *, left: bool = True) -> Value:
    """X with x X = y, or with X x = y: linear in y, which may be one vector for each matrix."""
    if len(y.shape) == 1 or tuple(y.shape) == tuple(x.shape[:-1]):
        column = reshape(d, y, (*y.shape, 1))
        return reshape(d, product(d, _inverse(d, x), column), meta_shape(node))
    return product(d, _inverse(d, x), y) if left else product(d, y, _inverse(d, x))


@rule("linalg_solve_triangular")
def solution_of_triangle(
    d: Builder, node: fx.Node, x: Value, y: Value, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Value:
    """The same with a matrix of which one triangle is read; its diagonal may be taken for ones."""
    read = d.masked(x, 0.0, x.shape, _triangle(upper, unitriangular), by_place=True)
    if unitriangular:
        d.fix(read, reason=Reason("not sought", str(d.cause), "other bases of a square matrix are not followed"))
        inverted = d.ended(x.shape, function_of("inverse", _inverse_beside_ones), read)
    elif upper:  # its first column is zero but for one entry: the transposed one has none
        inverted = moved(d, _inverse(d, moved(d, read, -1, -2), -1), -1, -2)
    else:
        inverted = _inverse(d, read, -1)
    return product(d, inverted, y) if left else product(d, y, inverted)


def _inverse_beside_ones(x: Tensor) -> Tensor:
    """(1 + x)⁻¹."""
    inverted: Tensor = torch.linalg.inv(x + torch.eye(x.shape[-1], dtype=x.dtype, device=x.device))
    return inverted


def _triangle(upper: bool, strict: bool) -> Function:
    """The upper or the lower triangle, with or without the diagonal."""

    def apply(x: Tensor, *_: Any) -> Tensor:
        return x.triu(int(strict)) if upper else x.tril(-int(strict))

    return function_of("triangle", apply, settings=(upper, strict))
