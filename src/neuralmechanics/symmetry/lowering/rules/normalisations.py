"""Normalisations: what scales alike, and what is constant, over the normalised axes is divided out and subtracted."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from torch import fx

from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.lowering.capture.captured import operation_name, place
from neuralmechanics.symmetry.lowering.rules.movement import meta_shape, reshape
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.program.refusals import NotSoughtError


def _eps(node: fx.Node, eps: float | None, name: str = "eps") -> Breaking | None:
    return Breaking(name, float(eps), place(node)) if eps else None


def _affine(d: Any, x: Any, weight: Any, bias: Any, shape: Sequence[int]) -> Any:
    """γ·x + β with γ, β viewed as ``shape``."""
    if weight is not None:
        x = d.mul(x, reshape(d, weight, shape))
    if bias is not None:
        x = d.add(x, reshape(d, bias, shape))
    return x


def _channels(x: Any) -> tuple[int, ...]:
    return (x.shape[1], *((1,) * (len(x.shape) - 2)))


def batch_normalised(d: Any, node: fx.Node, x: Any, weight: Any, bias: Any, training: bool, eps: float) -> Any:
    """Training mode: over batch and positions. Evaluation mode: an affine map with fixed numbers."""
    if training:
        dims = (0, *range(2, len(x.shape)))
        y = d.normalise(x, dims, True, _eps(node, eps))
    else:
        per_channel = d.constant(_channels(x))
        y = d.mul(d.add(x, per_channel, -1.0), d.constant(_channels(x)))
    return _affine(d, y, weight, bias, _channels(x))


@rule("batch_norm")
def batch_norm(
    d: Any,
    node: fx.Node,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool = True,
) -> Any:
    return batch_normalised(d, node, x, weight, bias, training or mean is None, eps)


@rule("_native_batch_norm_legit_functional", "native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm")
def native_batch_norm(d: Any, node: fx.Node, x: Any, weight: Any, bias: Any, *rest: Any) -> tuple[Any, ...]:
    """(mean, var, training, momentum, eps), or (training, momentum, eps) where no running statistics are kept."""
    batch, eps = rest[-3] or len(rest) == 3 or rest[0] is None, rest[-1]
    return _with_statistics(d, node, x, batch_normalised(d, node, x, weight, bias, batch, eps), batch)


def _with_statistics(d: Any, node: fx.Node, x: Any, out: Any, batch: bool) -> tuple[Any, ...]:
    """The result, mean and inverse deviation of the batch, and the running statistics that come of them."""
    if not batch or not _statistics_read(node):
        return (out, *(d.constant((x.shape[1],)) for _ in range(5)))
    found = _statistics(d, x, (0, *range(2, len(x.shape))), (x.shape[1],))
    if _statistics_read(node, first=3):
        d.fix(*found)
    return (out, *found, *(d.constant((x.shape[1],)) for _ in range(3)))


def _statistics_read(node: fx.Node, first: int = 1) -> bool:
    """Whether an operation reads more of a normalisation than its result: the mean, the inverse deviation."""
    parts = [user for user in node.users if user.target is operator.getitem and int(str(user.args[1])) >= first]
    return any(reader.op == "call_function" for part in parts for reader in part.users)


def _statistics(d: Any, x: Any, dims: Sequence[int], shape: Sequence[int]) -> tuple[Any, Any]:
    """The mean over ``dims`` and the inverse of the standard deviation."""
    mean, inverse = d.reduce(x, dims, True, True), d.power(d.deviation(x, dims, True), -1.0)
    return reshape(d, mean, shape), reshape(d, inverse, shape)


@rule("_native_batch_norm_legit_no_training", "_batch_norm_no_update")
def frozen_batch_norm(
    d: Any, node: fx.Node, x: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float
) -> tuple[Any, ...]:
    """Evaluation mode in functional form."""
    out = batch_normalised(d, node, x, weight, bias, False, eps)
    return (out, *(d.constant((x.shape[1],)) for _ in range(3)))


@rule("_batch_norm_with_update", "_batch_norm_with_update_functional")
def updating_batch_norm(
    d: Any, node: fx.Node, x: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float
) -> tuple[Any, ...]:
    """Training mode in functional form."""
    return _with_statistics(d, node, x, batch_normalised(d, node, x, weight, bias, True, eps), True)


def mode_of_batch_norm(node: fx.Node) -> bool | None:
    """The mode that a batch norm with running statistics runs in, by its own arguments; None for all else.

    Without running statistics it uses the batch's in either mode.
    """
    name = operation_name(node)
    if "batch_norm" not in name or len(node.args) < 7 or node.args[3] is None:
        return None
    if "no_training" in name or "no_update" in name:
        return False
    return True if "with_update" in name else bool(node.args[5])


@rule("instance_norm")
def instance_norm(
    d: Any,
    node: fx.Node,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn: bool = True,
) -> Any:
    """Over positions, for each sample and channel."""
    if not use_input_stats:
        return batch_normalised(d, node, x, weight, bias, False, eps)
    y = d.normalise(x, tuple(range(2, len(x.shape))), True, _eps(node, eps))
    return _affine(d, y, weight, bias, _channels(x))


@rule("layer_norm")
def layer_norm(
    d: Any,
    node: fx.Node,
    x: Any,
    shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn: bool = True,
) -> Any:
    """Over the last dimensions."""
    dims = tuple(range(len(x.shape) - len(shape), len(x.shape)))
    return _affine(d, d.normalise(x, dims, True, _eps(node, eps)), weight, bias, shape)


@rule("native_layer_norm")
def native_layer_norm(
    d: Any, node: fx.Node, x: Any, shape: Sequence[int], weight: Any, bias: Any, eps: float
) -> tuple[Any, ...]:
    out = layer_norm(d, node, x, shape, weight, bias, eps)
    outer = (*x.shape[: len(x.shape) - len(shape)], *(1 for _ in shape))
    if not _statistics_read(node):
        return (out, d.constant(outer), d.constant(outer))
    return (out, *_statistics(d, x, tuple(range(len(x.shape) - len(shape), len(x.shape))), outer))


@rule("rms_norm")
def rms_norm(d: Any, node: fx.Node, x: Any, shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    """Over the last dimensions, without centring; eps defaults to the dtype's machine precision."""
    import torch

    dims = tuple(range(len(x.shape) - len(shape), len(x.shape)))
    value = torch.finfo(node.meta["val"].dtype).eps if eps is None else eps
    return _affine(d, d.normalise(x, dims, False, _eps(node, value)), weight, None, shape)


@rule("_fused_rms_norm")
def fused_rms_norm(
    d: Any, node: fx.Node, x: Any, shape: Sequence[int], weight: Any, eps: float | None
) -> tuple[Any, ...]:
    outer = (*x.shape[: len(x.shape) - len(shape)], *(1 for _ in shape))
    if not _statistics_read(node):
        return rms_norm_of(d, node, x, shape, weight, eps), d.constant(outer)
    dims = tuple(range(len(x.shape) - len(shape), len(x.shape)))
    size = d.power(d.reduce(d.power(x, 2.0), dims, True, True), -0.5)
    return rms_norm_of(d, node, x, shape, weight, eps), size


def rms_norm_of(d: Any, node: fx.Node, x: Any, shape: Sequence[int], weight: Any, eps: float | None) -> Any:
    dims = tuple(range(len(x.shape) - len(shape), len(x.shape)))
    return _affine(d, d.normalise(x, dims, False, _eps(node, eps)), weight, None, shape)


@rule("group_norm")
def group_norm(
    d: Any,
    node: fx.Node,
    x: Any,
    groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn: bool = True,
) -> Any:
    """Over the channels of a group and the positions."""
    split = reshape(d, x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    y = d.normalise(split, tuple(range(2, len(split.shape))), True, _eps(node, eps))
    return _affine(d, reshape(d, y, x.shape), weight, bias, _channels(x))


@rule("native_group_norm")
def native_group_norm(
    d: Any, node: fx.Node, x: Any, weight: Any, bias: Any, n: int, c: int, area: int, groups: int, eps: float
) -> tuple[Any, ...]:
    out = group_norm(d, node, x, groups, weight, bias, eps)
    if not _statistics_read(node):
        return out, d.constant((n, groups)), d.constant((n, groups))
    split = reshape(d, x, (n, groups, c // groups * area))
    return (out, *_statistics(d, split, (2,), (n, groups)))


@rule("_weight_norm_interface", "_weight_norm")
def weight_norm(d: Any, node: fx.Node, v: Any, g: Any, dim: int = 0) -> Any:
    """g·v/|v| with the norm over all dimensions but ``dim``: exact, there is no eps."""
    dims = tuple(k for k in range(len(v.shape)) if k != dim % len(v.shape))
    out = d.mul(d.normalise(v, dims, False, None), g)
    if "interface" not in str(node.target):
        return out
    size = d.power(d.reduce(d.power(v, 2.0), dims, True, False), 0.5) if _statistics_read(node) else d.constant(g.shape)
    return out, size


@rule("linalg_vector_norm", "norm", "frobenius_norm", "linalg_norm")
def vector_norm(d: Any, node: fx.Node, x: Any, *args: Any, **kwargs: Any) -> Any:
    """A norm over some dimensions: homogeneous of degree one."""
    lists = [a for a in (*args, kwargs.get("dim")) if isinstance(a, (list, tuple))]
    single = [a for a in args[1:2] if isinstance(a, int) and not isinstance(a, bool)]
    dims = tuple(lists[0]) if lists and lists[0] else tuple(single) or tuple(range(len(x.shape)))
    shape = meta_shape(node)
    keepdim = len(shape) == len(x.shape)
    order = args[0] if args and isinstance(args[0], (int, float)) else kwargs.get("ord", 2)
    if isinstance(order, (int, float)) and not isinstance(order, bool) and order <= 0:
        raise NotSoughtError("a norm that is no length", hides=True)
    if "vector_norm" in str(node.target) and order == 2:
        return reshape(d, d.power(d.reduce(d.power(x, 2.0), dims, keepdim, False), 0.5), shape)
    out = d.reduce(d.homogeneous(x, nonnegative=True), dims, keepdim, False)
    return reshape(d, out, shape)


@rule("norm_except_dim")
def norm_except(d: Any, node: fx.Node, x: Any, power: int = 2, dim: int = 0) -> Any:
    dims = tuple(k for k in range(len(x.shape)) if k != dim)
    return d.reduce(d.homogeneous(x, nonnegative=True), dims, True, False)


@rule("var", "std")
def spread_of(d: Any, node: fx.Node, x: Any, dim: Any = None, *_: Any, **kwargs: Any) -> Any:
    """Degree two (variance) or one (deviation), blind to constants along ``dim``."""
    dims = dim if isinstance(dim, (list, tuple)) and dim else ([dim] if isinstance(dim, int) else range(len(x.shape)))
    shape = meta_shape(node)
    out = d.deviation(x, tuple(k % len(x.shape) for k in dims), len(shape) == len(x.shape))
    return d.power(reshape(d, out, shape), 2.0) if "var" in str(node.target) else reshape(d, out, shape)


@rule("var_mean", "std_mean")
def spread_and_mean(d: Any, node: fx.Node, x: Any, dim: Any = None, *_: Any, **kwargs: Any) -> tuple[Any, Any]:
    dims = dim if isinstance(dim, (list, tuple)) and dim else ([dim] if isinstance(dim, int) else range(len(x.shape)))
    dims = tuple(k % len(x.shape) for k in dims)
    keepdim = len(node.meta["val"][0].shape) == len(x.shape)
    out = d.deviation(x, dims, keepdim)
    return (d.power(out, 2.0) if "var_mean" in str(node.target) else out), d.reduce(x, dims, keepdim, True)


@rule("cosine_similarity")
def cosine(d: Any, node: fx.Node, x: Any, y: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    dim %= len(x.shape)
    broken = _eps(node, eps)
    both = d.mul(d.normalise(x, (dim,), False, broken), d.normalise(y, (dim,), False, broken))
    return d.reduce(both, (dim,), False, False)
