"""What torch itself lowers operations to (``prims``): the same functions as those of ATen, under other names."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

# The rules that are registered here a second time must have been registered.
from neuralmechanics.symmetry.lowering.rules import arithmetic, elementwise, masks  # noqa: F401
from neuralmechanics.symmetry.lowering.rules.rearranging import movement, pieces  # noqa: F401
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import expand, reshape
from neuralmechanics.symmetry.lowering.rules.reducing.reductions import extreme, summed
from neuralmechanics.symmetry.lowering.rules.registry import RULES, rule
from neuralmechanics.symmetry.lowering.sizes import meta_shape
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.value import Value

_SAME = (
    "abs", "add", "sub", "mul", "div", "neg", "sqrt", "rsqrt", "reciprocal", "pow", "sign", "exp", "exp2", "expm1",
    "log", "log2", "log10", "log1p", "sin", "cos", "tan", "tanh", "erf", "erfc", "maximum", "minimum", "where", "cat",
    "clone", "eq", "ne", "lt", "le", "gt", "ge", "hypot", "fmax", "fmin", "isfinite", "floor", "ceil", "round",
    "trunc",
)  # fmt: skip

# Functions of one tensor, or of tensors and numbers, with the arguments of their namesakes.
for _name in _SAME:
    rule(_name, prefix="prims.")(RULES[f"aten.{_name}"])
rule("transpose", prefix="prims.")(RULES["aten.permute"])
rule("convert_element_type", "view_of", "device_put", prefix="prims.")(RULES["aten.to"])
rule("reshape", "collapse_view", "collapse", "split_dim", "squeeze", prefix="prims.")(RULES["aten.reshape"])


@rule("broadcast_in_dim", prefix="prims.")
def broadcast_in_dim(d: Builder, node: fx.Node, x: Value, shape: Sequence[int], dims: Sequence[int]) -> Value:
    """x broadcast to a shape, its dimension k as the result's dimension ``dims[k]``."""
    full = meta_shape(node)
    sizes = [1] * len(full)
    for k, dim in enumerate(dims):
        sizes[dim] = x.shape[k]
    return expand(d, reshape(d, x, sizes), full)


@rule("sum", prefix="prims.")
def prims_sum(d: Builder, node: fx.Node, x: Value, dims: Sequence[int], **__: object) -> Value:
    """The sum over some dimensions, or over none."""
    return summed(d, node, x, dims) if dims else x


@rule("amax", "amin", prefix="prims.")
def prims_extreme(d: Builder, node: fx.Node, x: Value, dims: Sequence[int], **__: object) -> Value:
    """The largest or the smallest entry over some dimensions, or over none."""
    return extreme(d, node, x, dims) if dims else x
