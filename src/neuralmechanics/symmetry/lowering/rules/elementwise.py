"""Elementwise functions: homogeneous ones keep factors, those of the sign drop them, the rest admits no change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import operation_name
from neuralmechanics.symmetry.lowering.rules.arithmetic import EXPONENTIAL, STEPS
from neuralmechanics.symmetry.lowering.rules.functions import ABSOLUTE, IDENTITY, bound, function_of, outcome, parity
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import expand, meta_shape, reshape, take
from neuralmechanics.symmetry.lowering.rules.registry import Operand, is_number, number_in, rule, settings
from neuralmechanics.symmetry.program.attributes.function import EQUALS, NEGATIVE, POSITIVE, Function
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import NotSoughtError
from neuralmechanics.symmetry.program.value import Value, is_value


@rule("relu", "leaky_relu", "abs", "absolute", "rrelu")
def homogeneous(d: Builder, node: fx.Node, x: Value, *_: object, **__: object) -> Value:
    """f(a·x) = a·f(x) for a > 0."""
    nonnegative = operation_name(node).rstrip("_") in ("aten.relu", "aten.abs", "aten.absolute")
    return d.homogeneous(x, nonnegative, bound(node), parity(node) > 0)


@rule("threshold")
def thresholded(d: Builder, node: fx.Node, x: Value, threshold: float, value: float) -> Value:
    function = bound(node)
    return d.homogeneous(x, True, function) if threshold == 0 and value == 0 else d.nonlinear(x, function=function)


@rule("sign", "sgn", "heaviside")
def signs(d: Builder, node: fx.Node, x: Value, *values: Any) -> Value:
    """Homogeneous of degree zero; what stands for the sign of zero does not count."""
    d.fix(*(v for v in values if is_value(v)))
    return of_sign(d, expand(d, x, meta_shape(node)) if values else x, bound(node))


def of_sign(d: Builder, x: Value, function: Function) -> Value:
    """A function of the sign of each entry alone."""
    return d.power(d.homogeneous(x, function=IDENTITY), 0.0, function)


@rule("prelu", "_prelu_kernel")
def prelu(d: Builder, node: fx.Node, x: Value, weight: Value) -> Value:
    """x where it is positive, elsewhere a slope times x, one for all or one a channel: the slopes do not scale."""
    wide = (*(1,) * min(1, len(x.shape) - 1), -1, *(1,) * (len(x.shape) - 2)) if weight.shape else ()
    slopes = reshape(d, weight, tuple(math.prod(weight.shape) if n == -1 else n for n in wide))
    # As a sum of both halves, so that channels that are permuted take their slopes along.
    return d.add(d.homogeneous(x, True, POSITIVE), d.mul(d.homogeneous(x, function=NEGATIVE), slopes))


@rule("clamp", "clip", "clamp_min", "clamp_max")
def clamped(d: Builder, node: fx.Node, x: Value, low: Any = None, high: Any = None, **kwargs: object) -> Value:
    """Clamping at zero is homogeneous; a size at a small bound is stabilised; anything else ends the symmetry."""
    low, high = kwargs.get("min", low), kwargs.get("max", high)
    if "clamp_max" in str(node.target):
        low, high = None, low
    # Infinity bounds nothing.
    bounds = [b for b in (low, high) if b is not None and b not in (math.inf, -math.inf)]
    if not all(is_number(b) for b in bounds):
        others = [b for b in bounds if not is_number(b)]
        return d.nonlinear(x, *others, function=bound(node, *tensor_places(node)))
    if all(b == 0 for b in bounds):
        return d.homogeneous(x, low == 0, bound(node))
    floor = float(low) if high is None and low is not None else None
    return d.nonlinear(x, floor=floor, function=bound(node))


@rule("maximum", "minimum", "fmax", "fmin")
def larger(d: Builder, node: fx.Node, x: Value, y: Operand) -> Value:
    """Homogeneous when both scale alike."""
    return d.larger(x, y, "max" in str(node.target))


@rule(
    "tanh",
    "sigmoid",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "elu",
    "celu",
    "selu",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "atanh",
    "asinh",
    "acosh",
    "erf",
    "erfc",
    "hardswish",
    "hardsigmoid",
    "relu6",
    "hardtanh",
    "hardshrink",
    "softshrink",
    "log_sigmoid",
    "special_expit",
    "frac",
    "i0",
    "lgamma",
    "digamma",
    "special_erf",
    "sinc",
    "fmod",
    "remainder",
)
def ended(d: Builder, node: fx.Node, *xs: Value, **__: object) -> Value:
    """Not homogeneous: no change of the input is admitted."""
    nonnegative = operation_name(node).rstrip("_") in _POSITIVE
    function = bound(node, *tensor_places(node))
    return d.nonlinear(*_tensors(xs), nonnegative=nonnegative, function=function, parity=parity(node))


def tensor_places(node: fx.Node) -> list[int]:
    """The positions of the arguments that are tensors."""
    return [k for k, a in enumerate(node.args) if isinstance(a, fx.Node)]


_POSITIVE = ("aten.sigmoid", "aten.special_expit", "aten.softplus", "aten.hardsigmoid", "aten.relu6")


def _tensors(xs: Sequence[Any]) -> list[Any]:
    return [x for x in xs if not is_number(x) and not isinstance(x, (str, type(None)))]


@rule(
    "sin",
    "cos",
    "expm1",
    "log1p",
    "logaddexp",
    "logaddexp2",
    "xlogy",
    "special_xlog1py",
    "special_xlogy",
    "logit",
    "special_logit",
    "erfinv",
    "nan_to_num",
    "glu_jvp",
)
def turned_over(d: Builder, node: fx.Node, *xs: Value, **__: object) -> Value:
    """exp(x + c) is a multiple of exp(x), log(c·x) a shift of log(x), (sin, cos)(x + c) a rotation: not looked for."""
    raise NotSoughtError(EXPONENTIAL)


@rule(
    "round",
    "floor",
    "ceil",
    "trunc",
    "fix",
    "floor_divide",
    "isnan",
    "isinf",
    "isfinite",
    "logical_not",
    "logical_and",
    "logical_or",
    "logical_xor",
    "bitwise_not",
    "bitwise_and",
    "bitwise_or",
    "__and__",
    "__or__",
    "__xor__",
    "nextafter",
)
def stepped(d: Builder, node: fx.Node, *xs: Value, **__: object) -> Value:
    """Constant between steps: the value fixes its inputs, the gradient does not see them."""
    raise NotSoughtError(STEPS, hides=True)


@rule("atan2", "arctan2")
def angle(d: Builder, node: fx.Node, x: Any, y: Any) -> Value:
    """The angle of (y, x), of degree zero in both together."""
    quotient = d.mul(d.homogeneous(x, function=IDENTITY), d.power(d.homogeneous(y, function=IDENTITY), -1.0))
    sign = function_of("sign", torch.sgn)
    turned = function_of("atan2", lambda quotient, x, y: torch.atan2(quotient.abs() * x, y))
    return d.nonlinear(quotient, of_sign(d, x, sign), of_sign(d, y, sign), function=turned)


@rule("copysign")
def signed(d: Builder, node: fx.Node, x: Any, y: Any) -> Value:
    """The size of x with the sign of y."""
    if is_number(y):
        return d.homogeneous(x, function=bound(node))
    size = d.homogeneous(x, True, ABSOLUTE)
    return d.mul(size, of_sign(d, y, function_of("sign", lambda y: torch.copysign(torch.ones_like(y), y))))


@rule("gt", "lt", "ge", "le", "eq", "ne", "greater", "less", "greater_equal", "less_equal", "not_equal")
def compared(d: Builder, node: fx.Node, x: Value, y: Operand) -> Value:
    """Comparison with zero is invariant to positive factors."""
    equal = "eq" in operation_name(node)
    if number_in(y) == 0:
        return of_sign(d, x, replace(bound(node, 0), name=EQUALS) if equal else bound(node, 0))
    if equal and isinstance(y, int) and not x.depends:
        return d.computed(x.shape, settings(node), True, replace(outcome(node), name=EQUALS, settings=y), [x])
    raise NotSoughtError(STEPS, hides=True)


@rule("glu")
def gated(d: Builder, node: fx.Node, x: Value, dim: int = -1) -> Value:
    """a·sigmoid(b) for the two halves a, b."""
    half = x.shape[dim] // 2
    sigmoid = function_of("sigmoid", torch.sigmoid)
    gate = d.nonlinear(take(d, x, dim, range(half, 2 * half)), nonnegative=True, function=sigmoid)
    return d.mul(take(d, x, dim, range(half)), gate)
