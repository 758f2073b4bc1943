"""Elementwise operations: sums tie labels, products add them, powers multiply them, the rest ends them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import operation_name
from neuralmechanics.symmetry.lowering.rules.functions import ABSOLUTE, IDENTITY, bound, function_of, outcome, parity
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import expand, meta_shape, reshape
from neuralmechanics.symmetry.lowering.rules.registry import Operand, number_in, rule
from neuralmechanics.symmetry.lowering.sizes import shape_of
from neuralmechanics.symmetry.program.attributes.function import NEGATIVE, POSITIVE, Function
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import NotSoughtError
from neuralmechanics.symmetry.program.value import Value, is_value


def is_number(x: Value) -> bool:
    return isinstance(x, (int, float, bool))


def entered(d: Builder, *operands: Any) -> tuple[Any, ...]:
    """The operands, with numbers that only the data know as constants."""
    return tuple(d.constant(()) if isinstance(x, (torch.SymInt, torch.SymFloat)) else x for x in operands)


@rule("add", "sub", "rsub", "subtract")
def added(d: Builder, node: fx.Node, x: Any, y: Any, alpha: float = 1) -> Value:
    """x ± alpha·y."""
    x, y = entered(d, x, y)
    name = str(node.target)
    if "rsub" in name:
        x, y = y, x
    sign = -float(alpha) if "sub" in name else float(alpha)
    if is_number(x):
        out = d.add_number(d.scaled(y, sign) if sign != 1 else y, float(x))
    elif is_number(y):
        out = d.add_number(x, float(y) * sign)
    else:
        out = d.add(x, y, sign)
    return expand(d, out, meta_shape(node)) if tuple(out.shape) != meta_shape(node) else out


@rule("mul", "multiply")
def multiplied(d: Builder, node: fx.Node, x: Any, y: Any) -> Value:
    """x·y: log-scales add; with itself, the square."""
    x, y = entered(d, x, y)
    if is_number(x):
        x, y = y, x
    if is_number(y):
        return d.scaled(x, float(y))
    return d.mul(x, y)


@rule("div", "true_divide", "divide")
def divided(d: Builder, node: fx.Node, x: Any, y: Any, **kwargs: Any) -> Value:
    """x/y: log-scales subtract. Rounded quotients have no gradient."""
    x, y = entered(d, x, y)
    if kwargs.get("rounding_mode") is not None:
        raise NotSoughtError(_STEPS, hides=True)
    if is_number(y):
        return d.scaled(x, 1.0 / float(y) if y else math.inf)
    if is_number(x):
        inverse = d.power(y, -1.0)
        return inverse if x == 1 else d.scaled(inverse, float(x))
    return d.mul(x, d.power(y, -1.0))


@rule("pow", "float_power")
def raised(d: Builder, node: fx.Node, x: Value, exponent: Any) -> Value:
    if not is_number(exponent):
        raise NotSoughtError(_EXPONENTIAL)
    return d.power(x, float(exponent))


@rule("square")
def squared(d: Builder, node: fx.Node, x: Value) -> Value:
    return d.power(x, 2.0)


@rule("sqrt")
def rooted(d: Builder, node: fx.Node, x: Value) -> Value:
    return d.power(x, 0.5)


@rule("rsqrt")
def inverse_rooted(d: Builder, node: fx.Node, x: Value) -> Value:
    return d.power(x, -0.5)


@rule("reciprocal")
def inverted(d: Builder, node: fx.Node, x: Value) -> Value:
    return d.power(x, -1.0)


@rule("neg", "negative")
def negated(d: Builder, node: fx.Node, x: Value) -> Value:
    return d.scaled(x, -1.0)


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
    return d.add(d.homogeneous(x, True, POSITIVE), d.mul(d.homogeneous(x, function=NEGATIVE), slopes))


@rule("clamp", "clip", "clamp_min", "clamp_max")
def clamped(d: Builder, node: fx.Node, x: Value, low: Any = None, high: Any = None, **kwargs: object) -> Value:
    """Clamping at zero is homogeneous; a size at a small bound is stabilised; anything else ends the symmetry."""
    low, high = kwargs.get("min", low), kwargs.get("max", high)
    if "clamp_max" in str(node.target):
        low, high = None, low
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


_EXPONENTIAL = "sums that turn into products, and products into sums, are not followed"
_STEPS = "no gradient passes a step"


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
    raise NotSoughtError(_EXPONENTIAL)


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
    raise NotSoughtError(_STEPS, hides=True)


@rule("hypot")
def hypotenuse(d: Builder, node: fx.Node, x: Value, y: Operand) -> Value:
    """√(x² + y²), homogeneous of degree one."""
    return d.power(d.add(d.power(x, 2.0), d.power(y, 2.0)), 0.5)


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
    if number_in(y) == 0:
        return of_sign(d, x, bound(node, 0))
    raise NotSoughtError(_STEPS, hides=True)


@rule("glu")
def gated(d: Builder, node: fx.Node, x: Value, dim: int = -1) -> Value:
    """a·sigmoid(b) for the two halves a, b."""
    from neuralmechanics.symmetry.lowering.rules.rearranging.movement import take

    half = x.shape[dim] // 2
    sigmoid = function_of("sigmoid", torch.sigmoid)
    gate = d.nonlinear(take(d, x, dim, range(half, 2 * half)), nonnegative=True, function=sigmoid)
    return d.mul(take(d, x, dim, range(half)), gate)


@rule("dropout", "feature_dropout", "alpha_dropout", "native_dropout", "feature_alpha_dropout")
def dropped(d: Builder, node: fx.Node, x: Value, p: float = 0.5, train: bool = True) -> tuple[Value, Value] | Value:
    """Multiplication by a random mask in training mode."""
    native = "native" in str(node.target)
    function = bound(node, part=0 if native else None)
    out = x
    if train is not False and p > 0:  # the native one drops without being told, too
        out = d.nonlinear(x, function=function) if "alpha" in str(node.target) else d.noise(x, function)
    return (out, d.constant(x.shape, nonnegative=True, function=outcome(node, 1))) if native else out


@rule("where")
def chosen(d: Builder, node: fx.Node, condition: Any, x: Operand | None = None, y: Operand | None = None) -> Any:
    """x or y by a mask; zeros scale with anything, and what softmax reads as minus infinity shifts with anything.

    With the mask alone: where it holds, one tensor of positions a dimension.
    """
    if x is None and y is None:
        d.fix(condition)
        return tuple(d.constant(shape_of(v), function=outcome(node, k)) for k, v in enumerate(node.meta["val"]))
    shape = meta_shape(node)
    d.fix(condition)
    first, other = number_in(x), number_in(y)
    mask = node.args[0]
    if first is not None and other is None:
        filled = function_of("where", lambda y, mask: torch.where(mask, first, y), mask)
        return d.masked(y, first, shape, filled, _value(condition))
    if other is not None and first is None:
        filled = function_of("where", lambda x, mask: torch.where(mask, x, other), mask)
        return d.masked(x, other, shape, filled, _value(condition))
    if first is not None:
        return d.constant(shape, function=outcome(node))
    picked = function_of("where", lambda x, y, mask: torch.where(mask, x, y), mask)
    return d.select(x, y, shape, picked, _value(condition))


def _value(x: Value) -> Value | None:
    """x where it is a value of the program."""
    return x if is_value(x) else None


@rule("masked_fill")
def filled(d: Builder, node: fx.Node, x: Value, mask: Value, value: Any) -> Value:
    number = number_in(value)
    d.fix(mask, *([] if is_number(value) else [value]))
    number = math.nan if number is None else number
    function = function_of("masked_fill", torch.masked_fill, *node.args[1:])
    return d.masked(x, number, meta_shape(node), function, _value(mask))


@rule("tril", "triu")
def triangle(d: Builder, node: fx.Node, x: Value, diagonal: int = 0) -> Value:
    """A mask of zeros."""
    return d.masked(x, 0.0, x.shape, bound(node), by_place=True)


@rule("lerp")
def interpolated(d: Builder, node: fx.Node, x: Any, y: Any, weight: Any) -> Value:
    """x + weight·(y - x)."""
    step = d.add(y, x, -1.0)
    return d.add(x, d.scaled(step, float(weight)) if is_number(weight) else d.mul(step, weight))


@rule("addcmul")
def added_product(d: Builder, node: fx.Node, x: Value, a: Value, b: Value, value: float = 1) -> Value:
    return d.add(x, d.mul(a, b), float(value))


@rule("addcdiv")
def added_quotient(d: Builder, node: fx.Node, x: Value, a: Value, b: Value, value: float = 1) -> Value:
    return d.add(x, d.mul(a, d.power(b, -1.0)), float(value))


@rule("exp", "exp2", "special_exp2")
def exponential(d: Builder, node: fx.Node, x: Value) -> Value:
    """exp(x), and 2^x = exp(x log 2): what quotients of them do not see is found by ``passes.softmaxes``."""
    return d.exponential(d.scaled(x, math.log(2)) if "exp2" in str(node.target) else x)


@rule("log", "log2", "log10")
def logarithm(d: Builder, node: fx.Node, x: Value) -> Value:
    """log(x), to base 2 and 10 a multiple of it."""
    base = {"log2": 2.0, "log10": 10.0}.get(operation_name(node).split(".")[-1].rstrip("_"))
    out = d.logarithm(x)
    return out if base is None else d.scaled(out, 1 / math.log(base))
