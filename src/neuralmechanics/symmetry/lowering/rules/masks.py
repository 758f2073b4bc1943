"""Masks: entries kept, dropped or replaced by a number where a mask says so."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.rules.functions import bound, function_of, outcome
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import meta_shape
from neuralmechanics.symmetry.lowering.rules.registry import Operand, is_number, number_in, rule, settings
from neuralmechanics.symmetry.lowering.sizes import shape_of
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.value import Value, is_value


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
        found = [(shape_of(v), outcome(node, k)) for k, v in enumerate(node.meta["val"])]
        if condition.depends:
            return tuple(d.constant(shape, function=f) for shape, f in found)
        return tuple(d.computed(s, (settings(node), k), False, f, [condition]) for k, (s, f) in enumerate(found))
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
    # Two numbers: no parameter enters but through the mask, which may not move.
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
    # A number that only the data know: NaN is neither the zero nor the infinity that a symmetry would leave alone.
    number = math.nan if number is None else number
    function = function_of("masked_fill", torch.masked_fill, *node.args[1:])
    return d.masked(x, number, meta_shape(node), function, _value(mask))


@rule("tril", "triu")
def triangle(d: Builder, node: fx.Node, x: Value, diagonal: int = 0) -> Value:
    """A mask of zeros."""
    return d.masked(x, 0.0, x.shape, bound(node), by_place=True)
