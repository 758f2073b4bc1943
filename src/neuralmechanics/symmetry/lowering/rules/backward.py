"""Backward passes as operations: what a loss that differentiates inside is made of, below autograd.

Each is linear in the incoming gradient g; what it does with the tensors that the forward pass saved is written in the
primitives of the forward operation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.lowering.capture.captured import place
from neuralmechanics.symmetry.lowering.rules.movement import reshape, take
from neuralmechanics.symmetry.lowering.rules.registry import rule, settings
from neuralmechanics.symmetry.lowering.sizes import known, meta_shape, meta_shape_of
from neuralmechanics.symmetry.program.contraction import Contraction, Window
from neuralmechanics.symmetry.program.value import is_value


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
    "celu_backward",
    "log_sigmoid_backward",
    "logit_backward",
    "hardshrink_backward",
    "softshrink_backward",
)
def times_slope(d: Any, node: Any, gradient: Any, *saved: Any, **kwargs: Any) -> Any:
    """g·f'(x) for a function f that no change of x leaves alone: of x nothing may move."""
    tensors = [value for value in (*saved, *kwargs.values()) if is_value(value)]
    return d.mul(gradient, d.nonlinear(*tensors))


@rule("threshold_backward", "leaky_relu_backward", "rrelu_with_noise_backward")
def times_step(d: Any, node: Any, gradient: Any, x: Any, *settled: Any, **__: Any) -> Any:
    """g times one of two slopes by the sign of x, which positive factors leave as it is."""
    at_zero = "threshold" not in str(node.target) or settled[0] == 0
    return d.mul(gradient, d.power(d.homogeneous(x), 0.0) if at_zero else d.nonlinear(x))


@rule("_prelu_kernel_backward")
def prelu_backward(d: Any, node: Any, gradient: Any, x: Any, weight: Any) -> tuple[Any, Any]:
    """g times one or the slope, by the sign of x; and g·min(x, 0) for the slope."""
    d.fix(weight)
    return d.mul(gradient, d.power(d.homogeneous(x), 0.0)), d.mul(gradient, d.homogeneous(x))


@rule("glu_backward")
def gated_backward(d: Any, node: Any, gradient: Any, x: Any, dim: int) -> Any:
    """(g·σ(b), g·a·σ'(b)) for x = (a, b)."""
    half = x.shape[dim] // 2
    first, gate = take(d, x, dim, range(half)), take(d, x, dim, range(half, 2 * half))
    parts = [d.mul(gradient, d.nonlinear(gate)), d.mul(d.mul(gradient, first), d.nonlinear(gate))]
    return d.cat(parts, dim % len(x.shape))


@rule("select_backward")
def select_backward(d: Any, node: Any, gradient: Any, sizes: Sequence[int], dim: int, index: Any) -> Any:
    """g at one entry along ``dim``, zero elsewhere."""
    at, dim = known(index), dim % len(sizes)
    if at is None:
        raise ValueError("a place that the data decide")
    one = reshape(d, gradient, (*gradient.shape[:dim], 1, *gradient.shape[dim:]))
    at %= sizes[dim]
    return d.zero_padded(one, dim, at, sizes[dim] - 1 - at, 0.0)


@rule("slice_backward")
def slice_backward(
    d: Any, node: Any, gradient: Any, sizes: Sequence[int], dim: int, start: Any, end: Any, step: int
) -> Any:
    """g at a range along ``dim``, zero elsewhere."""
    dim %= len(sizes)
    if step != 1 or known(start) is None or known(end) is None:
        raise ValueError("a range with gaps, or one that the data decide")
    places = range(sizes[dim])[start:end]
    before, after = places.start, sizes[dim] - places.stop
    return d.zero_padded(gradient, dim, before, after, 0.0) if before or after else gradient


@rule("_softmax_backward_data")
def softmax_backward(d: Any, node: Any, gradient: Any, y: Any, dim: int, *_: Any) -> Any:
    """y·(g - Σ g·y) along ``dim``."""
    both = d.mul(gradient, y)
    return d.add(both, d.mul(y, d.reduce(both, (dim % len(y.shape),), True, False)), -1.0)


@rule("_log_softmax_backward_data")
def log_softmax_backward(d: Any, node: Any, gradient: Any, y: Any, dim: int, *_: Any) -> Any:
    """g - exp(y)·Σ g along ``dim``."""
    total = d.reduce(gradient, (dim % len(y.shape),), True, False)
    return d.add(gradient, d.mul(d.nonlinear(y), total), -1.0)


def _normalised_backward(
    d: Any, gradient: Any, x: Any, dims: Sequence[int], weight: Any, eps: Breaking | None
) -> tuple[Any, Any]:
    """(g·γ - mean(g·γ) - x̂·mean(g·γ·x̂))/σ, and g·x̂, for x̂ normalised over ``dims``."""
    unit = d.normalise(x, dims, True, eps)
    inverse = d.power(d.deviation(x, dims, True), -1.0)
    scaled = gradient if weight is None else d.mul(gradient, weight)
    centred = d.add(scaled, d.reduce(scaled, dims, True, True), -1.0)
    along = d.mul(unit, d.reduce(d.mul(scaled, unit), dims, True, True))
    return d.mul(inverse, d.add(centred, along, -1.0)), d.mul(gradient, unit)


def _breaking(node: Any, eps: float) -> Breaking | None:
    return Breaking("eps", float(eps), place(node)) if eps else None


@rule("native_layer_norm_backward")
def layer_norm_backward(
    d: Any, node: Any, gradient: Any, x: Any, shape: Sequence[int], mean: Any, rstd: Any, weight: Any, *_: Any
) -> tuple[Any, Any, Any]:
    """Over the last dimensions; the gradients of γ and β are sums over the others."""
    dims = tuple(range(len(x.shape) - len(shape), len(x.shape)))
    outer = tuple(range(len(x.shape) - len(shape)))
    moved, both = _normalised_backward(d, gradient, x, dims, weight, None)
    return moved, d.reduce(both, outer, False, False), d.reduce(gradient, outer, False, False)


@rule("native_batch_norm_backward")
def batch_norm_backward(
    d: Any, node: Any, gradient: Any, x: Any, weight: Any, mean: Any, var: Any, m: Any, r: Any, train: bool, eps: float,
    *_: Any,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """Over batch and positions, with batch statistics."""
    if not train:
        raise ValueError("the backward pass of a batch norm in evaluation mode")
    dims = (0, *range(2, len(x.shape)))
    gain = None if weight is None else reshape(d, weight, (x.shape[1], *(1,) * (len(x.shape) - 2)))
    moved, both = _normalised_backward(d, gradient, x, dims, gain, _breaking(node, eps))
    return moved, d.reduce(both, dims, False, False), d.reduce(gradient, dims, False, False)


@rule("convolution_backward")
def convolution_backward(
    d: Any, node: Any, gradient: Any, x: Any, weight: Any, sizes: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, *_: Any,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The gradient spread back through the kernel, and the kernel's as products of gradient and input."""
    if groups != 1:
        raise ValueError("the backward pass of a convolution in groups")
    spatial = len(weight.shape) - 2
    places, kernel, outs = "stu"[:spatial], "xyz"[:spatial], "pqr"[:spatial]
    channels = "ic" if transposed else "ci"
    axes = list(zip(places, kernel, outs, x.shape[2:], weight.shape[2:], strict=True))
    back = tuple(Window(o, k, i, False, settings(node), n) for i, k, o, n, _ in axes)
    across = tuple(Window(i, o, k, False, settings(node), n) for i, k, o, _, n in axes)
    moved = d.contract(gradient, weight, Contraction("bc" + outs, channels + kernel, "bi" + places, back))
    taps = d.contract(x, gradient, Contraction("bi" + places, "bc" + outs, channels + kernel, across))
    bias = d.reduce(gradient, (0, *range(2, len(gradient.shape))), False, False)
    return moved, taps, bias


@rule("avg_pool2d_backward", "avg_pool3d_backward", "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward")
def mean_pool_backward(d: Any, node: Any, gradient: Any, x: Any, *_: Any, **__: Any) -> Any:
    """Each entry of g shared among those that its mean was taken over."""
    spatial = 3 if "3d" in str(node.target) else 2
    dims = tuple(range(len(x.shape) - spatial, len(x.shape)))
    return d.pool(gradient, dims, meta_shape(node), True, False, settings(node))


@rule("max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward")
def max_pool_backward(d: Any, node: Any, gradient: Any, x: Any, *_: Any, **__: Any) -> Any:
    """g where the maxima stood, which no change that the pooling admits moves."""
    return d.mul(mean_pool_backward(d, node, gradient, x), d.constant(meta_shape(node)))


@rule("embedding_dense_backward")
def embedding_backward(d: Any, node: Any, gradient: Any, index: Any, rows: int, padding: int, by_count: bool) -> Any:
    """Rows of g added into the rows that they came from."""
    if by_count:
        raise ValueError("gradients divided by how often a row is read")
    d.fix(index)
    width = gradient.shape[-1]
    flat = reshape(d, gradient, (math.prod(index.shape), width))
    return d.placed(None, flat, 0, (rows, width))


@rule("native_dropout_backward")
def dropout_backward(d: Any, node: Any, gradient: Any, mask: Any, scale: float) -> Any:
    """g times the mask of the forward pass."""
    return d.scaled(d.mul(gradient, mask), float(scale))


@rule("mse_loss_backward")
def squared_error_backward(d: Any, node: Any, gradient: Any, x: Any, target: Any, reduction: int) -> Any:
    """2·g·(x - t), divided by the count where the loss is a mean."""
    mean, total = 1, 2
    if reduction not in (0, mean, total):
        raise ValueError(f"reduction {reduction} of a squared error")
    count = math.prod(x.shape) if reduction == mean else 1
    return d.scaled(d.mul(d.add(x, target, -1.0), gradient), 2.0 / count)


@rule("nll_loss_backward")
def likelihood_backward(
    d: Any, node: Any, gradient: Any, x: Any, target: Any, weight: Any, reduction: int, ignored: int, total: Any
) -> Any:
    """-g at the target's entry, zero elsewhere: linear in g."""
    d.fix(target, total, *([] if weight is None else [weight]))
    spread = gradient if len(gradient.shape) == 0 else reshape(d, gradient, (*gradient.shape[:1], 1))
    return d.mul(
        spread, d.constant(meta_shape_of(node, 0) if isinstance(node.meta["val"], tuple) else meta_shape(node))
    )
