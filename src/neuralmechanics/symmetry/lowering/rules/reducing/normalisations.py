"""Normalisations: what scales alike, and what is constant, over the normalised axes is divided out and subtracted."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.lowering.capture.captured import place
from neuralmechanics.symmetry.lowering.rules.functions import ABSOLUTE, IDENTITY, function_of, outcome
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import expand, meta_shape, reshape
from neuralmechanics.symmetry.lowering.rules.registry import Dims, rule
from neuralmechanics.symmetry.lowering.sizes import meta_shape_of, shape_of
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.conditions import BatchStatistics
from neuralmechanics.symmetry.program.refusals import NotSoughtError
from neuralmechanics.symmetry.program.value import Value


def _eps(node: fx.Node, eps: float | None, name: str = "eps") -> Breaking | None:
    return Breaking(name, float(eps), place(node)) if eps else None


def _affine(d: Builder, x: Value, weight: Value | None, bias: Value | None, shape: Sequence[int]) -> Value:
    """γ·x + β with γ, β viewed as ``shape``."""
    if weight is not None:
        x = d.mul(x, reshape(d, weight, shape))
    if bias is not None:
        x = d.add(x, reshape(d, bias, shape))
    return x


def _channels(x: Value) -> tuple[int, ...]:
    return (x.shape[1], *((1,) * (len(x.shape) - 2)))


def batch_normalised(
    d: Builder, node: fx.Node, x: Value, weight: Value | None, bias: Value | None, training: bool, eps: float
) -> Value:
    """Training mode: over batch and positions. Evaluation mode: an affine map with fixed numbers."""
    if training:
        dims = (0, *range(2, len(x.shape)))
        y = d.normalise(x, dims, True, _eps(node, eps))
    else:
        shape = _channels(x)  # the running statistics are the arguments behind the bias
        names = [n.name if isinstance(n, fx.Node) else None for n in node.args[3:5]]
        centre = function_of("mean", lambda m: m.reshape(shape), node.args[3])
        mean = d.constant(shape, function=centre, entries_of=names[0])
        inverse = function_of("inverse", lambda v: (v + eps).rsqrt().reshape(shape), node.args[4], settings=eps)
        y = d.mul(d.add(x, mean, -1.0), d.constant(shape, function=inverse, entries_of=names[1]))
    return _affine(d, y, weight, bias, _channels(x))


@rule("batch_norm")
def batch_norm(
    d: Builder,
    node: fx.Node,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool = True,
) -> Value:
    out = batch_normalised(d, node, x, weight, bias, training or mean is None, eps)
    _note_mode(d, mean, training)
    return out


def _note_mode(d: Builder, mean: Value | None, training: bool) -> None:
    """The mode decides which statistics are used where running ones are kept."""
    if mean is not None:
        d.requires(BatchStatistics(d.cause.place, bool(training)))


@rule("_native_batch_norm_legit_functional", "native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm")
def native_batch_norm(
    d: Builder, node: fx.Node, x: Value, weight: Value | None, bias: Value | None, *rest: Any
) -> tuple[Any, ...]:
    """(mean, var, training, momentum, eps), or (training, momentum, eps) where no running statistics are kept."""
    batch, eps = rest[-3] or len(rest) == 3 or rest[0] is None, rest[-1]
    out = batch_normalised(d, node, x, weight, bias, batch, eps)
    _note_mode(d, rest[0] if len(rest) > 3 else None, rest[-3])
    return _with_statistics(d, node, x, out, batch, eps)


def _with_statistics(d: Builder, node: fx.Node, x: Value, out: Value, batch: bool, eps: float) -> tuple[Any, ...]:
    """The result, mean and inverse deviation of the batch, and the running statistics that come of them."""
    if not batch or not _statistics_read(node):
        return (out, *_unread(d, node, 1))
    found = _held(d, node, *_statistics(d, x, (0, *range(2, len(x.shape))), (x.shape[1],), eps))
    return (out, *found, *_unread(d, node, 3))


def _unread(d: Builder, node: fx.Node, first: int) -> list[Any]:
    """The results from the one numbered ``first`` on, of which nothing is made."""
    return [d.constant(shape_of(v), function=outcome(node, k)) for k, v in enumerate(node.meta["val"]) if k >= first]


def _statistics_read(node: fx.Node, first: int = 1) -> bool:
    """Whether an operation reads more of a normalisation than its result: the mean, the inverse deviation."""
    return any(reader.op == "call_function" for reader in _readers(node, first))


def _readers(node: fx.Node, first: int) -> list[fx.Node]:
    """What reads the results from the one numbered ``first`` on."""
    parts = [user for user in node.users if user.target is operator.getitem and int(str(user.args[1])) >= first]
    return [reader for part in parts for reader in part.users]


def _held(d: Builder, node: fx.Node, *found: Any) -> tuple[Any, ...]:
    """Statistics, which no gradient passes: where more than a backward pass reads them, they may not move."""
    if any("backward" not in str(reader.target) for reader in _readers(node, 1)):
        d.fix(*found)
    return found


def _statistics(d: Builder, x: Value, dims: Sequence[int], shape: Sequence[int], eps: float) -> tuple[Any, Any]:
    """The mean over ``dims`` and the inverse of the standard deviation, eps added to its square."""
    mean = d.reduce(x, dims, True, True)
    inverse = d.power(d.deviation(x, dims, True, 0.0), -1.0, inverse_of_deviation(eps))
    return reshape(d, mean, shape), reshape(d, inverse, shape)


def inverse_of_deviation(eps: float) -> Function:
    """1/√(σ² + eps): the normalisation itself says that eps breaks its scaling."""
    return function_of("inverse", lambda sigma: (sigma * sigma + eps).rsqrt(), settings=eps)


@rule("_native_batch_norm_legit_no_training", "_batch_norm_no_update")
def frozen_batch_norm(
    d: Builder,
    node: fx.Node,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    momentum: float,
    eps: float,
) -> tuple[Any, ...]:
    """Evaluation mode in functional form."""
    out = batch_normalised(d, node, x, weight, bias, False, eps)
    _note_mode(d, mean, False)
    return (out, *_unread(d, node, 1))


@rule("_batch_norm_with_update", "_batch_norm_with_update_functional")
def updating_batch_norm(
    d: Builder,
    node: fx.Node,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    momentum: float,
    eps: float,
) -> tuple[Any, ...]:
    """Training mode in functional form."""
    out = batch_normalised(d, node, x, weight, bias, True, eps)
    _note_mode(d, mean, True)
    return _with_statistics(d, node, x, out, True, eps)


@rule("instance_norm")
def instance_norm(
    d: Builder,
    node: fx.Node,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn: bool = True,
) -> Value:
    """Over positions, for each sample and channel."""
    if not use_input_stats:
        return batch_normalised(d, node, x, weight, bias, False, eps)
    y = d.normalise(x, tuple(range(2, len(x.shape))), True, _eps(node, eps))
    return _affine(d, y, weight, bias, _channels(x))


@rule("layer_norm")
def layer_norm(
    d: Builder,
    node: fx.Node,
    x: Value,
    shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn: bool = True,
) -> Value:
    """Over the last dimensions."""
    dims = tuple(range(len(x.shape) - len(shape), len(x.shape)))
    return _affine(d, d.normalise(x, dims, True, _eps(node, eps)), weight, bias, shape)


@rule("native_layer_norm")
def native_layer_norm(
    d: Builder, node: fx.Node, x: Value, shape: Sequence[int], weight: Value | None, bias: Value | None, eps: float
) -> tuple[Any, ...]:
    out = layer_norm(d, node, x, shape, weight, bias, eps)
    outer = (*x.shape[: len(x.shape) - len(shape)], *(1 for _ in shape))
    if not _statistics_read(node):
        return (out, *_unread(d, node, 1))
    return (out, *_held(d, node, *_statistics(d, x, tuple(range(len(x.shape) - len(shape), len(x.shape))), outer, eps)))


@rule("rms_norm")
def rms_norm(
    d: Builder, node: fx.Node, x: Value, shape: Sequence[int], weight: Value | None = None, eps: float | None = None
) -> Value:
    """Over the last dimensions, without centring; eps defaults to the dtype's machine precision."""
    return rms_norm_of(d, node, x, shape, weight, _machine_eps(node, eps))


def _machine_eps(node: fx.Node, eps: float | None) -> float:
    """The eps given, or the precision of the numbers."""
    return torch.finfo(node.args[0].meta["val"].dtype).eps if eps is None else eps  # type: ignore[union-attr]


@rule("_fused_rms_norm")
def fused_rms_norm(
    d: Builder, node: fx.Node, x: Value, shape: Sequence[int], weight: Value | None, eps: float | None
) -> tuple[Any, ...]:
    eps = _machine_eps(node, eps)
    if not _statistics_read(node):
        return (rms_norm_of(d, node, x, shape, weight, eps), *_unread(d, node, 1))
    dims = tuple(range(len(x.shape) - len(shape), len(x.shape)))
    square = d.reduce(d.power(x, 2.0), dims, True, True)
    size = d.power(square, -0.5, function_of("inverse", lambda square: (square + eps).rsqrt(), settings=eps))
    return (rms_norm_of(d, node, x, shape, weight, eps), *_held(d, node, size))


def rms_norm_of(
    d: Builder, node: fx.Node, x: Value, shape: Sequence[int], weight: Value | None, eps: float | None
) -> Value:
    dims = tuple(range(len(x.shape) - len(shape), len(x.shape)))
    return _affine(d, d.normalise(x, dims, False, _eps(node, eps)), weight, None, shape)


@rule("group_norm")
def group_norm(
    d: Builder,
    node: fx.Node,
    x: Value,
    groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn: bool = True,
) -> Value:
    """Over the channels of a group and the positions."""
    split = reshape(d, x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    y = d.normalise(split, tuple(range(2, len(split.shape))), True, _eps(node, eps))
    return _affine(d, reshape(d, y, x.shape), weight, bias, _channels(x))


@rule("native_group_norm")
def native_group_norm(
    d: Builder,
    node: fx.Node,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    n: int,
    c: int,
    area: int,
    groups: int,
    eps: float,
) -> tuple[Any, ...]:
    out = group_norm(d, node, x, groups, weight, bias, eps)
    if not _statistics_read(node):
        return (out, *_unread(d, node, 1))
    split = reshape(d, x, (n, groups, c // groups * area))
    return (out, *_held(d, node, *_statistics(d, split, (2,), (n, groups), eps)))


@rule("_weight_norm_interface", "_weight_norm")
def weight_norm(d: Builder, node: fx.Node, v: Value, g: Any, dim: int = 0) -> Any:
    """g·v/|v| with the norm over all dimensions but ``dim`` (over all, for -1): exact, there is no eps."""
    dims = all_but(v, dim)
    out = d.mul(d.normalise(v, dims, False, None, False), g)
    if "interface" not in str(node.target):
        return out
    if not _statistics_read(node):
        return (out, *_unread(d, node, 1))
    return (out, *_held(d, node, reshape(d, length(d, v, dims, 2.0), meta_shape_of(node, 1))))


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


@rule("cosine_similarity")
def cosine_similarity(d: Builder, node: fx.Node, x: Value, y: Value, dim: int = 1, eps: float = 1e-8) -> Value:
    """Of vectors along ``dim`` of the tensors broadcast to one shape, none of them taken as shorter than ``eps``."""
    full = np.broadcast_shapes(x.shape, y.shape)
    dim %= len(full)
    bounded = function_of("normalize", lambda x: x / x.norm(dim=dim, keepdim=True).clamp_min(eps), settings=(dim, eps))
    x, y = (expand(d, v, full) if v.shape != full else v for v in (x, y))
    return cosine(d, node, x, y, dim, eps, bounded)


def cosine(
    d: Builder, node: fx.Node, x: Value, y: Value, dim: int, eps: float, function: Function | None = None
) -> Value:
    """The cosine of the angle between vectors along ``dim``."""
    x, y = (d.normalise(v, (dim,), False, _eps(node, eps), False, function) for v in (x, y))
    return d.reduce(d.mul(x, y), (dim,), False, False)
