"""Lengths and spreads: norms of vectors, variances, and the cosine of the angle between two."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from neuralmechanics.symmetry.lowering.rules.functions import ABSOLUTE, IDENTITY, function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import meta_shape, reshape
from neuralmechanics.symmetry.lowering.rules.registry import Dims, rule
from neuralmechanics.symmetry.lowering.sizes import meta_shape_of
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
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
    of_matrices = "linalg_norm" in str(node.target) and len(dims) == 2
    if order == "fro":
        return reshape(d, length(d, x, dims, 2.0), shape)
    if isinstance(order, str) or (of_matrices and order is not None):
        return reshape(d, norm_of_matrices(d, x, order, dims), shape)
    return reshape(d, length(d, x, dims, 2.0 if order is None else float(order)), shape)


@rule("linalg_matrix_norm")
def matrix_norm(
    d: Builder, node: fx.Node, x: Value, order: float | str = "fro", dims: Sequence[int] = (-2, -1), *_: Any, **__: Any
) -> Value:
    """A norm over two dimensions: homogeneous of degree one."""
    return reshape(d, norm_of_matrices(d, x, order, dims), meta_shape(node))


def norm_of_matrices(d: Builder, x: Value, order: float | str, dims: Sequence[int]) -> Value:
    """Over two dimensions, which stay with one entry each.

    Of the columns' sums (±1) or the rows' (±∞) the largest or the least; the length of all entries; of the singular
    values the largest, the least, or the sum, of which only the degree is followed.
    """
    down, across = (k % len(x.shape) for k in dims)
    if order == "fro":
        return length(d, x, (down, across), 2.0)
    if isinstance(order, str) or abs(order) == 2:
        size = d.reduce(d.homogeneous(x, function=IDENTITY), (down, across), True, False, bound_norm(order, dims))
        return d.homogeneous(size, True, ABSOLUTE)
    added, compared = (down, across) if abs(order) == 1 else (across, down)
    sums = d.reduce(d.homogeneous(x, True, ABSOLUTE), (added,), True, False)
    return d.extremum(sums, (compared,), True, order > 0)


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


@rule("cov")
def covariance(
    d: Builder,
    node: fx.Node,
    x: Value,
    *,
    correction: int = 1,
    fweights: Value | None = None,
    aweights: Value | None = None,
) -> Value:
    """Of each pair of rows the mean product about their means; ``correction`` is taken off the count."""
    x = reshape(d, x, (1,) * (2 - len(x.shape)) + tuple(x.shape))
    count = x.shape[1]
    given = [w for w in (fweights, aweights) if w is not None]
    if not given:
        about = d.add(x, d.reduce(x, (1,), True, True), -1.0)
        freedom = count - correction
        pairs = d.scaled(d.contract(about, about, _PAIRS), 1 / freedom if freedom > 0 else math.inf)
        return reshape(d, pairs, meta_shape(node))
    d.fix(*given)
    # w/Σw as the softmax of log w: means that it weighs are those of constants, too.
    shares = d.softmax(d.ended((count,), function_of("logarithm", _joint_logarithm), *given), 0)
    about = d.add(x, reshape(d, d.contract(x, shares, Contraction("az", "z", "a")), (x.shape[0], 1)), -1.0)
    over = function_of("over_freedom", _over_freedom(correction, aweights is not None), settings=correction)
    weighed = d.mul(about, d.ended((count,), over, *given))
    return reshape(d, d.contract(about, weighed, _PAIRS), meta_shape(node))


_PAIRS = Contraction("az", "bz", "ab")


def _joint_logarithm(*weights: Tensor) -> Tensor:
    return torch.stack([w.double() for w in weights]).log().sum(0)


def _over_freedom(correction: int, by_amount: bool) -> Callable[..., Tensor]:
    """The weights over the count of what is free; ``by_amount``: the last of them weigh amounts and do not repeat."""

    def apply(*weights: Tensor) -> Tensor:
        joint = torch.stack([w.double() for w in weights]).prod(0)
        total = joint.sum()
        taken = (joint * weights[-1]).sum() / total if by_amount else 1.0
        return joint / (total - correction * taken).clamp_min(0.0)

    return apply


@rule("corrcoef")
def correlations(d: Builder, node: fx.Node, x: Value) -> Value:
    """Of each pair of rows the mean product of what is left when mean and spread are taken out."""
    x = reshape(d, x, (1,) * (2 - len(x.shape)) + tuple(x.shape))
    even = d.normalise(x, (1,), True, None)
    return reshape(d, d.scaled(d.contract(even, even, _PAIRS), 1 / x.shape[1]), meta_shape(node))
