"""Normalisations: what scales alike, and what is constant, over the normalised axes is divided out and subtracted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.lowering.capture.captured import place
from neuralmechanics.symmetry.lowering.rules.functions import function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import reshape
from neuralmechanics.symmetry.lowering.rules.reducing.lengths import all_but, length
from neuralmechanics.symmetry.lowering.rules.reducing.statistics import held, statistics, statistics_read, unread
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.lowering.sizes import meta_shape_of
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.conditions import BatchStatistics
from neuralmechanics.symmetry.program.value import Value


def eps_of(node: fx.Node, eps: float | None, name: str = "eps") -> Breaking | None:
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
        y = d.normalise(x, dims, True, eps_of(node, eps))
    else:
        shape = _channels(x)  # the running statistics are the arguments behind the bias
        names = [n.name if isinstance(n, fx.Node) else None for n in node.args[3:5]]
        centre = function_of("mean", lambda m: m.reshape(shape), node.args[3])
        # By the names of their buffers, so that channels that are permuted take their statistics along.
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
    # Where no running statistics are kept, those of the batch are used in either mode.
    batch, eps = rest[-3] or len(rest) == 3 or rest[0] is None, rest[-1]
    out = batch_normalised(d, node, x, weight, bias, batch, eps)
    _note_mode(d, rest[0] if len(rest) > 3 else None, rest[-3])
    return _with_statistics(d, node, x, out, batch, eps)


def _with_statistics(d: Builder, node: fx.Node, x: Value, out: Value, batch: bool, eps: float) -> tuple[Any, ...]:
    """The result, mean and inverse deviation of the batch, and the running statistics that come of them."""
    if not batch or not statistics_read(node):
        return (out, *unread(d, node, 1))
    found = held(d, node, *statistics(d, x, (0, *range(2, len(x.shape))), (x.shape[1],), eps))
    return (out, *found, *unread(d, node, 3))


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
    return (out, *unread(d, node, 1))


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
    y = d.normalise(x, tuple(range(2, len(x.shape))), True, eps_of(node, eps))
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
    return _affine(d, d.normalise(x, dims, True, eps_of(node, eps)), weight, bias, shape)


@rule("native_layer_norm")
def native_layer_norm(
    d: Builder, node: fx.Node, x: Value, shape: Sequence[int], weight: Value | None, bias: Value | None, eps: float
) -> tuple[Any, ...]:
    out = layer_norm(d, node, x, shape, weight, bias, eps)
    outer = (*x.shape[: len(x.shape) - len(shape)], *(1 for _ in shape))
    if not statistics_read(node):
        return (out, *unread(d, node, 1))
    return (out, *held(d, node, *statistics(d, x, tuple(range(len(x.shape) - len(shape), len(x.shape))), outer, eps)))


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
    if not statistics_read(node):
        return (rms_norm_of(d, node, x, shape, weight, eps), *unread(d, node, 1))
    dims = tuple(range(len(x.shape) - len(shape), len(x.shape)))
    square = d.reduce(d.power(x, 2.0), dims, True, True)
    size = d.power(square, -0.5, function_of("inverse", lambda square: (square + eps).rsqrt(), settings=eps))
    return (rms_norm_of(d, node, x, shape, weight, eps), *held(d, node, size))


def rms_norm_of(
    d: Builder, node: fx.Node, x: Value, shape: Sequence[int], weight: Value | None, eps: float | None
) -> Value:
    dims = tuple(range(len(x.shape) - len(shape), len(x.shape)))
    return _affine(d, d.normalise(x, dims, False, eps_of(node, eps)), weight, None, shape)


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
    y = d.normalise(split, tuple(range(2, len(split.shape))), True, eps_of(node, eps))
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
    if not statistics_read(node):
        return (out, *unread(d, node, 1))
    split = reshape(d, x, (n, groups, c // groups * area))
    return (out, *held(d, node, *statistics(d, split, (2,), (n, groups), eps)))


@rule("_weight_norm_interface", "_weight_norm")
def weight_norm(d: Builder, node: fx.Node, v: Value, g: Any, dim: int = 0) -> Any:
    """g·v/|v| with the norm over all dimensions but ``dim`` (over all, for -1): exact, there is no eps."""
    dims = all_but(v, dim)
    out = d.mul(d.normalise(v, dims, False, None, False), g)
    if "interface" not in str(node.target):
        return out
    if not statistics_read(node):
        return (out, *unread(d, node, 1))
    return (out, *held(d, node, reshape(d, length(d, v, dims, 2.0), meta_shape_of(node, 1))))
