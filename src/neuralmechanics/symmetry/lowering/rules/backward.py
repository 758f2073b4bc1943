"""Backward passes as operations: what a loss that differentiates inside is made of, below autograd.

Each is linear in the incoming gradient g; what it does with the tensors that the forward pass saved is written in the
primitives of the forward operation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.lowering.capture.captured import place
from neuralmechanics.symmetry.lowering.rules.contracting.convolutions import listed
from neuralmechanics.symmetry.lowering.rules.elementwise import of_sign, tensor_places
from neuralmechanics.symmetry.lowering.rules.functions import bound, function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import reshape, take
from neuralmechanics.symmetry.lowering.rules.registry import rule, settings
from neuralmechanics.symmetry.lowering.sizes import known, meta_shape
from neuralmechanics.symmetry.program.attributes.contraction import Contraction, Window
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import UnsupportedFormError
from neuralmechanics.symmetry.program.value import Value, is_value


@rule(
    "tanh_backward",
    "sigmoid_backward",
    "gelu_backward",
    "silu_backward",
    "mish_backward",
    "hardswish_backward",
    "hardsigmoid_backward",
    "hardtanh_backward",
    "softplus_backward",
    "elu_backward",
    "log_sigmoid_backward",
    "logit_backward",
    "hardshrink_backward",
    "softshrink_backward",
)
def times_slope(d: Builder, node: fx.Node, gradient: Value, *saved: Value, **kwargs: object) -> Value:
    """g·f'(x) for a function f that no change of x leaves alone: of x nothing may move."""
    tensors = [value for value in saved if is_value(value)]
    return d.mul(gradient, d.nonlinear(*tensors, function=_slope(node)))


def _slope(node: fx.Node, part: int | None = None) -> Function:
    """What one becomes in the place of the gradient, as a function of the tensors that were saved."""
    backward = bound(node, *tensor_places(node), part=part)
    return replace(backward, apply=lambda x, *xs: backward.apply(torch.ones_like(x), x, *xs))


@rule("threshold_backward", "leaky_relu_backward", "rrelu_with_noise_backward")
def times_step(d: Builder, node: Any, gradient: Any, x: Any, *settled: Any, **__: Any) -> Any:
    """g times one of two slopes by the sign of x, which positive factors leave as it is."""
    at_zero = "threshold" not in str(node.target) or settled[0] == 0
    d.fix(*(v for v in settled if is_value(v)))
    backward = bound(node, 0, 1)
    slope = replace(backward, apply=lambda x, *xs: backward.apply(torch.ones_like(x), x, *xs))
    return d.mul(gradient, of_sign(d, x, slope) if at_zero else d.nonlinear(x, function=slope))


@rule("_prelu_kernel_backward")
def prelu_backward(d: Builder, node: fx.Node, gradient: Value, x: Value, weight: Value) -> tuple[Any, Any]:
    """g times one or the slope, by the sign of x; and g·min(x, 0) for the slope."""
    d.fix(weight)
    backward = bound(node, 0, 1, part=0)
    slope = replace(backward, apply=lambda x, *xs: backward.apply(torch.ones_like(x), x, *xs))
    below = d.homogeneous(x, function=function_of("min", lambda x: x.clamp_max(0)))
    return d.mul(gradient, of_sign(d, x, slope)), d.mul(gradient, below)


@rule("glu_backward")
def gated_backward(d: Builder, node: fx.Node, gradient: Value, x: Value, dim: int) -> Value:
    """(g·σ(b), g·a·σ'(b)) for x = (a, b)."""
    half = x.shape[dim] // 2
    first, gate = take(d, x, dim, range(half)), take(d, x, dim, range(half, 2 * half))
    open_ = d.nonlinear(gate, nonnegative=True, function=function_of("sigmoid", torch.sigmoid))
    slope = function_of("sigmoid'", lambda x: torch.sigmoid(x) * torch.sigmoid(-x))
    steep = d.nonlinear(gate, nonnegative=True, function=slope)
    parts = [d.mul(gradient, open_), d.mul(d.mul(gradient, first), steep)]
    return d.cat(parts, dim % len(x.shape))


@rule("select_backward")
def select_backward(d: Builder, node: fx.Node, gradient: Value, sizes: Sequence[int], dim: int, index: Value) -> Value:
    """g at one entry along ``dim``, zero elsewhere."""
    at, dim = known(index), dim % len(sizes)
    if at is None:
        raise UnsupportedFormError("a place that the data decide")
    one = reshape(d, gradient, (*gradient.shape[:dim], 1, *gradient.shape[dim:]))
    at %= sizes[dim]
    return d.zero_padded(one, dim, at, sizes[dim] - 1 - at)


@rule("slice_backward")
def slice_backward(
    d: Builder,
    node: fx.Node,
    gradient: Value,
    sizes: Sequence[int],
    dim: int,
    start: int | None,
    end: int | None,
    step: int,
) -> Value:
    """g at a range along ``dim``, zero elsewhere."""
    dim %= len(sizes)
    if known(start) is None or known(end) is None:
        raise UnsupportedFormError("a range that the data decide")
    places = range(sizes[dim])[start:end:step]
    if step != 1:
        wide = d.zero_padded(gradient, dim, 0, 1)
        return take(d, wide, dim, [places.index(k) if k in places else len(places) for k in range(sizes[dim])])
    before, after = places.start, sizes[dim] - places.stop
    return d.zero_padded(gradient, dim, before, after) if before or after else gradient


@rule("_softmax_backward_data")
def softmax_backward(d: Builder, node: fx.Node, gradient: Value, y: Value, dim: int, *_: object) -> Value:
    """y·(g - Σ g·y) along ``dim``."""
    both = d.mul(gradient, y)
    return d.add(both, d.mul(y, d.reduce(both, (dim % len(y.shape),), True, False)), -1.0)


@rule("_log_softmax_backward_data")
def log_softmax_backward(d: Builder, node: fx.Node, gradient: Value, y: Value, dim: int, *_: object) -> Value:
    """g - exp(y)·Σ g along ``dim``."""
    total = d.reduce(gradient, (dim % len(y.shape),), True, False)
    return d.add(gradient, d.mul(d.nonlinear(y, nonnegative=True, function=function_of("exp", torch.exp)), total), -1.0)


def _normalised_backward(
    d: Builder,
    gradient: Value,
    x: Value,
    dims: Sequence[int],
    weight: Value,
    eps: Breaking | None,
    unit_of: Function | None,
    inverse_of: Function,
) -> tuple[Any, Any]:
    """(g·γ - mean(g·γ) - x̂·mean(g·γ·x̂))/σ, and g·x̂, for x̂ normalised over ``dims``."""
    unit = d.normalise(x, dims, True, eps, True, unit_of)
    inverse = d.power(d.deviation(x, dims, True, 0.0), -1.0, inverse_of)
    scaled = gradient if weight is None else d.mul(gradient, weight)
    centred = d.add(scaled, d.reduce(scaled, dims, True, True), -1.0)
    along = d.mul(unit, d.reduce(d.mul(scaled, unit), dims, True, True))
    return d.mul(inverse, d.add(centred, along, -1.0)), d.mul(gradient, unit)


def _breaking(node: fx.Node, eps: float) -> Breaking | None:
    return Breaking("eps", float(eps), place(node)) if eps else None


@rule("native_layer_norm_backward")
def layer_norm_backward(
    d: Builder,
    node: fx.Node,
    gradient: Value,
    x: Value,
    shape: Sequence[int],
    mean: Value | None,
    rstd: Value,
    weight: Value,
    *_: object,
) -> tuple[Any, Any, Any]:
    """Over the last dimensions; the gradients of γ and β are sums over the others."""
    dims = tuple(range(len(x.shape) - len(shape), len(x.shape)))
    outer = tuple(range(len(x.shape) - len(shape)))
    saved = [
        function_of("saved", lambda x, m, r: (x - m) * r, *node.args[3:5]),
        function_of("saved", lambda _, r: r, node.args[4]),
    ]  # the eps is in them
    moved, both = _normalised_backward(d, gradient, x, dims, weight, None, *saved)
    return moved, d.reduce(both, outer, False, False), d.reduce(gradient, outer, False, False)


@rule("native_batch_norm_backward")
def batch_norm_backward(
    d: Builder, node: fx.Node, gradient: Value, x: Value, weight: Value, mean: Value | None, var: Value | None,
    m: Any, r: Any, train: bool, eps: float, *_: object,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """Over batch and positions, with batch statistics; with running ones, of an affine map."""
    dims, shape = (0, *range(2, len(x.shape))), (x.shape[1], *(1,) * (len(x.shape) - 2))
    gain = None if weight is None else reshape(d, weight, shape)
    if train:
        unit = function_of("saved", lambda x, m, r: (x - m.reshape(shape)) * r.reshape(shape), *node.args[5:7])
        inverse = function_of("saved", lambda sigma, r: r.reshape(sigma.shape), node.args[6])
        moved, both = _normalised_backward(d, gradient, x, dims, gain, _breaking(node, eps), unit, inverse)
    else:
        centre = d.constant(shape, function=function_of("mean", lambda m: m.reshape(shape), node.args[3]))
        inverse = function_of("inverse", lambda v: (v + eps).rsqrt().reshape(shape), node.args[4], settings=eps)
        factor = d.constant(shape, function=inverse)
        moved = d.mul(gradient if gain is None else d.mul(gradient, gain), factor)
        both = d.mul(gradient, d.mul(d.add(x, centre, -1.0), factor))
    return moved, d.reduce(both, dims, False, False), d.reduce(gradient, dims, False, False)


@rule("convolution_backward")
def convolution_backward(
    d: Builder, node: fx.Node, gradient: Value, x: Value, weight: Value, sizes: object, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], transposed: bool, output_padding: Sequence[int], groups: int,
    *_: object,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The gradient spread back through the kernel, and the kernel's as products of gradient and input."""
    spatial = len(weight.shape) - 2
    places, kernel, outs = "stu"[:spatial], "xyz"[:spatial], "pqr"[:spatial]
    channels = "gic" if transposed else "gci"
    flat, whole = x, gradient
    x, gradient = (reshape(d, v, (v.shape[0], groups, v.shape[1] // groups, *v.shape[2:])) for v in (x, gradient))
    rows = reshape(d, weight, (groups, weight.shape[0] // groups, *weight.shape[1:]))
    back, across = [], []
    for axis, (i, k, o) in enumerate(zip(places, kernel, outs, strict=True)):
        step, edge, apart = (listed(n, spatial)[axis] for n in (stride, padding, dilation))
        # Backwards a convolution is a transposed one, and the other way round.
        back.append(Window(o, k, i, False, (not transposed, step, edge, apart, 0), flat.shape[2 + axis]))
        one, other = (o, i) if transposed else (i, o)
        # The kernel's gradient convolves input and gradient; stride and dilation have changed places.
        across.append(Window(one, other, k, False, (False, apart, edge, step, 0), weight.shape[2 + axis]))
    inner, outer = "bgi" + places, "bgc" + outs
    moved = d.contract(gradient, rows, Contraction(outer, channels + kernel, inner, tuple(back)))
    operands = [(x, inner), (gradient, outer)][:: -1 if transposed else 1]
    (first, mine), (second, theirs) = operands
    taps = d.contract(first, second, Contraction(mine, theirs, channels + kernel, tuple(across)))
    bias = d.reduce(whole, (0, *range(2, len(whole.shape))), False, False)
    return reshape(d, moved, flat.shape), reshape(d, taps, weight.shape), bias


@rule("avg_pool2d_backward", "avg_pool3d_backward", "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward")
def mean_pool_backward(d: Builder, node: fx.Node, gradient: Value, x: Value, *_: object, **__: object) -> Value:
    """Each entry of g shared among those that its mean was taken over."""
    spatial = 3 if "3d" in str(node.target) else 2
    dims = tuple(range(len(x.shape) - spatial, len(x.shape)))
    return d.pool(gradient, dims, meta_shape(node), True, False, settings(node), bound(node))


@rule("max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward")
def max_pool_backward(d: Builder, node: fx.Node, gradient: Value, x: Value, *_: object, **__: object) -> Value:
    """g where the maxima stood, which no change that the pooling admits moves."""
    shape = meta_shape(node)
    chosen = d.constant(shape, function=function_of("chosen", lambda: torch.ones(shape, dtype=torch.float64)))
    return d.mul(mean_pool_backward(d, node, gradient, x), chosen)


@rule("embedding_dense_backward")
def embedding_backward(
    d: Builder, node: fx.Node, gradient: Value, index: Value, rows: int, padding: int, by_count: bool
) -> Value:
    """Rows of g added into the rows that they came from."""
    d.fix(index)
    width, shape, backward = gradient.shape[-1], gradient.shape, bound(node)
    written = replace(backward, apply=lambda flat, *index: backward.apply(flat.reshape(shape), *index))
    flat = reshape(d, gradient, (math.prod(index.shape), width))
    return d.placed(None, flat, 0, (rows, width), (), written)


@rule("native_dropout_backward")
def dropout_backward(d: Builder, node: fx.Node, gradient: Value, mask: Value, scale: float) -> Value:
    """g times the mask of the forward pass."""
    return d.scaled(d.mul(gradient, mask), float(scale))


@rule("mse_loss_backward")
def squared_error_backward(
    d: Builder, node: fx.Node, gradient: Value, x: Value, target: Value, reduction: int
) -> Value:
    """2·g·(x - t), divided by the count where the loss is a mean."""
    mean, total = 1, 2
    if reduction not in (0, mean, total):
        raise UnsupportedFormError(f"reduction {reduction} of a squared error")
    count = math.prod(x.shape) if reduction == mean else 1
    return d.scaled(d.mul(d.add(x, target, -1.0), gradient), 2.0 / count)


@rule("nll_loss_backward")
def likelihood_backward(
    d: Builder,
    node: fx.Node,
    gradient: Value,
    x: Value,
    target: Value,
    weight: Value,
    reduction: int,
    ignored: int,
    total: Value,
) -> Value:
    """-g at the target's entry, zero elsewhere: linear in g."""
    d.fix(target, total, *([] if weight is None else [weight]))
    spread = gradient if len(gradient.shape) == 0 else reshape(d, gradient, (*gradient.shape[:1], 1))
    shape, backward, sizes = meta_shape(node), bound(node), gradient.shape
    ones = replace(backward, apply=lambda *data: backward.apply(torch.ones(sizes, dtype=torch.float64), *data))
    return d.mul(spread, d.constant(shape, function=ones))
