"""Arithmetic: sums tie labels, products add them, powers multiply them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import operation_name
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import expand, meta_shape
from neuralmechanics.symmetry.lowering.rules.registry import Operand, is_number, rule
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import NotSoughtError
from neuralmechanics.symmetry.program.value import Value

EXPONENTIAL = "sums that turn into products, and products into sums, are not followed"
STEPS = "no gradient passes a step"


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
    # A wide summand that is filled with one number counts as the number, which widens nothing.
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
        raise NotSoughtError(STEPS, hides=True)
    if is_number(y):
        # torch divides by zero, Python does not.
        return d.scaled(x, 1.0 / float(y) if y else math.inf)
    if is_number(x):
        inverse = d.power(y, -1.0)
        return inverse if x == 1 else d.scaled(inverse, float(x))
    return d.mul(x, d.power(y, -1.0))


@rule("pow", "float_power")
def raised(d: Builder, node: fx.Node, x: Value, exponent: Any) -> Value:
    if not is_number(exponent):
        raise NotSoughtError(EXPONENTIAL)
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


@rule("hypot")
def hypotenuse(d: Builder, node: fx.Node, x: Value, y: Operand) -> Value:
    """√(x² + y²), homogeneous of degree one."""
    return d.power(d.add(d.power(x, 2.0), d.power(y, 2.0)), 0.5)


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
