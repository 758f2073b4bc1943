"""Sums, means, extrema, pooling and softmax."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from torch import fx

from neuralmechanics.symmetry.lowering.rules.functions import IDENTITY, bound, outcome
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import reshape, take
from neuralmechanics.symmetry.lowering.rules.registry import Dims, rule, settings
from neuralmechanics.symmetry.lowering.sizes import meta_shape, meta_shape_of, shape_of
from neuralmechanics.symmetry.program.attributes.function import COUNTS, SORTED
from neuralmechanics.symmetry.program.attributes.views import Permute
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import NotSoughtError
from neuralmechanics.symmetry.program.value import Value


def _dims(x: Value, dim: Dims) -> tuple[int, ...]:
    # torch takes the dimensions 0 and -1 of a number, which has none.
    rank = max(1, len(x.shape))
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return tuple(range(len(x.shape)))
    return tuple(k % rank for k in ([dim] if isinstance(dim, int) else dim))


@rule("sum", "mean", "nansum", "nanmean")
def summed(d: Builder, node: fx.Node, x: Value, dim: Dims = None, keepdim: bool = False, **__: object) -> Value:
    """A linear sum over ``dim``."""
    if not x.shape:
        return x
    return d.reduce(x, _dims(x, dim), keepdim, "mean" in str(node.target))


@rule("amax", "amin")
def extreme(d: Builder, node: fx.Node, x: Value, dim: Dims = (), keepdim: bool = False) -> Value:
    return d.extremum(x, _dims(x, dim), keepdim, "amax" in str(node.target)) if x.shape else x


@rule("max", "min")
def maximum(d: Builder, node: fx.Node, x: Value, dim: Dims = None, keepdim: bool = False) -> Any:
    """Over everything, over one dimension (values and positions), or of two tensors."""
    largest = "max" in str(node.target)
    if dim is not None and not isinstance(dim, int):
        return d.larger(x, dim, largest)
    if dim is None:
        return d.extremum(x, _dims(x, None), False, largest) if x.shape else x
    found = d.extremum(x, _dims(x, dim), keepdim, largest) if x.shape else x
    return found, d.constant(meta_shape_of(node, 1), function=outcome(node, 1))


@rule("all", "any", "count_nonzero")
def counted(d: Builder, node: fx.Node, x: Value, *_: object, **__: object) -> Value:
    """Counts: no gradient passes."""
    raise NotSoughtError("no gradient passes a count", hides=True)


@rule("histc", "bincount")
def histogram(d: Builder, node: fx.Node, x: Value, *settings_of: Any, **__: object) -> Value:
    """How often each number occurs: data, unless something that moves is counted."""
    if x.depends:
        raise NotSoughtError("no gradient passes a count", hides=True)
    shape, made = meta_shape(node), outcome(node)
    function = replace(made, name=COUNTS) if _of_whole_numbers(node, shape[0]) else made
    return d.computed(shape, settings(node), False, function, [x])


def _of_whole_numbers(node: fx.Node, bins: int) -> bool:
    """Whether the numbers 0, 1, … have a bin each."""
    if "bincount" in str(node.target):
        return len(node.args) < 2 or node.args[1] is None  # weights
    low, high = (*node.args[2:4], 0, 0)[:2]
    return bool(low == 0 and isinstance(high, (int, float)) and bins - 1 <= high <= bins)


@rule(
    "logcumsumexp",
    "cumprod",
)
def given_up(d: Builder, node: fx.Node, x: Value, *_: object, **__: object) -> Value:
    """Running products and sums of exponentials: their factors and shifts are not followed."""
    raise NotSoughtError("its factors and shifts are not followed")


@rule("argmax", "argmin")
def positions(d: Builder, node: fx.Node, x: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    """Invariant to a common positive factor and to a common shift along ``dim``."""
    # The power 0: a place does not scale with the entries, though it is read off them.
    return d.power(d.positions(x, _dims(x, dim), keepdim, bound(node)), 0.0, IDENTITY)


@rule("softmax", "_softmax", "_log_softmax", "log_softmax", "special_softmax", "special_log_softmax", "_safe_softmax")
def softmax(d: Builder, node: fx.Node, x: Value, dim: int, *_: object, **__: object) -> Value:
    log = "log" in str(node.target)
    return d.softmax(x, dim % len(x.shape), log) if x.shape else d.nonlinear(x, function=bound(node))


def _pooled(
    d: Builder, node: fx.Node, x: Value, spatial: int, linear: bool, keeps: bool, signed: bool = False
) -> tuple[Value, Value] | Value:
    dims = tuple(range(len(x.shape) - spatial, len(x.shape)))
    value = node.meta["val"]
    shape = shape_of(value[0] if isinstance(value, (tuple, list)) else value)
    several = isinstance(value, (tuple, list))
    out = d.pool(x, dims, shape, linear, keeps, settings(node), bound(node, part=0 if several else None), signed)
    return (out, d.constant(shape, function=outcome(node, 1))) if several else out


def _spatial(node: fx.Node) -> int:
    name = str(node.target)
    return next((k for k in (1, 2, 3) if f"pool{k}d" in name), 2)


@rule(
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
    "max_pool1d_with_indices",
    "fractional_max_pool2d",
)
def max_pool(d: Builder, node: fx.Node, x: Value, *_: object, **__: object) -> tuple[Value, Value] | Value:
    """Maxima commute with positive factors and with constants."""
    return _pooled(d, node, x, _spatial(node), False, True)


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(
    d: Builder,
    node: fx.Node,
    x: Value,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> tuple[Value, Value] | Value:
    """Means commute with constants unless zeros from the padding are counted."""
    padded = any([padding] if isinstance(padding, int) else padding)
    keeps = (not padded or not count_include_pad) and divisor_override is None
    return _pooled(d, node, x, _spatial(node), True, keeps, divisor_override is not None and divisor_override < 0)


@rule(
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"
)
def adaptive_avg_pool(d: Builder, node: fx.Node, x: Value, *_: object) -> tuple[Value, Value] | Value:
    return _pooled(d, node, x, _spatial(node), True, True)


@rule("topk", "sort")
def ordered(d: Builder, node: fx.Node, x: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Values in data-dependent places along one dimension, and the places, which a common shift leaves as they are."""
    numbers = [a for a in args if isinstance(a, int) and not isinstance(a, bool)]
    dim = kwargs.get("dim", numbers[1] if "topk" in str(node.target) and len(numbers) > 1 else None)
    if dim is None:
        dim = numbers[0] if "sort" in str(node.target) and numbers else -1
    shape = meta_shape_of(node, 0)
    if not shape:
        return x, d.constant(shape, 0.0)
    dim %= len(x.shape)
    function = bound(node, part=0)
    if "sort" in str(node.target):
        descending = kwargs.get("descending", any(a is True for a in args))
        function = replace(function, name=f"{SORTED} descending" if descending else SORTED)
    found = d.ordered(x, dim, shape, function)
    if x.depends:
        return found, d.constant(shape, function=outcome(node, 1))
    return found, d.computed(shape, (settings(node), 1), False, outcome(node, 1), [found])


@rule("logsumexp", "special_logsumexp")
def log_sum_of_exponentials(d: Builder, node: fx.Node, x: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    """log Σ_k exp(x_k) = x_0 - log_softmax(x)_0 over ``dim``, several dimensions joined into one."""
    if not x.shape:
        return x
    joined, along = _joined(d, x, _dims(x, dim))
    first, normalised = take(d, joined, along, [0]), take(d, d.softmax(joined, along, log=True), along, [0])
    return reshape(d, d.add(first, normalised, -1.0), meta_shape(node))


def _joined(d: Builder, x: Value, dims: tuple[int, ...]) -> tuple[Any, int]:
    """x with some dimensions as one, and which that is."""
    if len(dims) == 1:
        return x, dims[0]
    rest = [k for k in range(len(x.shape)) if k not in dims]
    last = d.view(x, Permute((*rest, *dims)))
    return reshape(d, last, (*last.shape[: len(rest)], math.prod(x.shape[k] for k in dims))), len(rest)
