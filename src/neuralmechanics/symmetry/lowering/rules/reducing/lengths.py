"""Lengths and spreads: norms of vectors, variances, and the cosine of the angle between two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.rules.functions import ABSOLUTE, IDENTITY, function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import meta_shape, reshape
from neuralmechanics.symmetry.lowering.rules.registry import Dims, rule
from neuralmechanics.symmetry.lowering.sizes import meta_shape_of
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import NotSoughtError
from neuralmechanics.symmetry.program.value import Value


@rule("linalg_vector_norm", "norm", "frobenius_norm", "linalg_norm")
def vector_norm(d: Builder, node: fx.Node, x: Value, *args: Any, **kwargs: object) -> Value:
    """A norm over some dimensions: homogeneous of degree one."""
    lists = [a for a in args if isinstance(a, (list, tuple))]
    single = [a for a in args[1:2] if isinstance(a, int) and not isinstance(a, bool)]
    dims = tuple(lists[0]) if lists and lists[0] else tuple(single) or tuple(range(len(x.shape)))
    shape = meta_shape(node)
    order = next((a for a in args[:1] if isinstance(a, (int, float, str)) and not isinstance(a, bool)), None)
    of_matrices = "linalg_norm" in str(node.target) and order is not None and len(dims) == 2
    if isinstance(order, str) or of_matrices:
        size = d.reduce(d.homogeneous(x, function=IDENTITY), dims, True, False, bound_norm(order, dims))
        return reshape(d, d.homogeneous(size, True, ABSOLUTE), shape)
    return reshape(d, length(d, x, dims, 2.0 if order is None else float(order)), shape)


def bound_norm(order: Any, dims: Sequence[int]) -> Function:
    """A norm of matrices (the largest singular value, the sum of them)."""
    return function_of("matrix_norm", lambda x: torch.linalg.matrix_norm(x, order, dims, True), settings=(order, dims))


def length(d: Builder, x: Value, dims: Sequence[int], order: float) -> Value:
    """(Σ|x|^p)^(1/p) over ``dims``, which stay with one entry; for p = ∞ the largest |x|."""
    if order <= 0:
        raise NotSoughtError("a norm that is no length", hides=True)
    if not x.shape:
        return d.homogeneous(x, True, ABSOLUTE)
    if order == 2:
        return d.power(d.reduce(d.power(x, 2.0), dims, True, False), 0.5)
    size = d.homogeneous(x, True, ABSOLUTE)
    if math.isinf(order):
        return d.extremum(size, dims, True)
    if order == 1:
        return d.reduce(size, dims, True, False)
    return d.power(d.reduce(d.power(size, order), dims, True, False), 1 / order)


@rule("norm_except_dim")
def norm_except(d: Builder, node: fx.Node, x: Value, power: int = 2, dim: int = 0) -> Value:
    return reshape(d, length(d, x, all_but(x, dim), float(power)), meta_shape(node))


def all_but(x: Value, dim: int) -> tuple[int, ...]:
    """All dimensions but one; -1 stands for none, as it does where torch normalises weights."""
    return tuple(k for k in range(len(x.shape)) if k != dim)


def _spread(node: fx.Node, x: Any, dim: Any, rest: Sequence[Any], kwargs: Any) -> tuple[tuple[int, ...], float]:
    """Over which dimensions, and what is taken off their count."""
    unbiased = dim if isinstance(dim, bool) else next((a for a in rest if isinstance(a, bool)), True)
    correction = float(unbiased) if kwargs.get("correction") is None else float(kwargs["correction"])
    if isinstance(dim, bool) or dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return tuple(range(len(x.shape))), correction
    dims = dim if isinstance(dim, (list, tuple)) else [dim]
    return tuple(k % max(1, len(x.shape)) for k in dims), correction


@rule("var", "std")
def spread_of(d: Builder, node: fx.Node, x: Value, dim: Dims = None, *rest: Any, **kwargs: object) -> Value:
    """Degree two (variance) or one (deviation), invariant to constants along ``dim``."""
    dims, correction = _spread(node, x, dim, rest, kwargs)
    out = reshape(d, d.deviation(x, dims, True, correction), meta_shape(node))
    return d.power(out, 2.0) if "var" in str(node.target) else out


@rule("var_mean", "std_mean")
def spread_and_mean(
    d: Builder, node: fx.Node, x: Value, dim: Dims = None, *rest: Any, **kwargs: object
) -> tuple[Any, Any]:
    dims, correction = _spread(node, x, dim, rest, kwargs)
    shape = meta_shape_of(node, 0)
    out, mean = d.deviation(x, dims, True, correction), d.reduce(x, dims, True, True)
    out, mean = reshape(d, out, shape), reshape(d, mean, shape)
    return (d.power(out, 2.0) if "var_mean" in str(node.target) else out), mean
