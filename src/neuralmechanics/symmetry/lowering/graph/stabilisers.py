"""Which added constants are stabilisers (eps): those that keep a size away from zero where it is divided by.

A positive constant of at most ``LARGEST``, added to a *size* (a sum or mean of squares, a variance, a norm, an absolute
value, anything that is never negative by the way it is made), counts as an eps where every reader of the result takes
its root or divides by it. A size that normalises is of order one: the constant breaks the scaling by a hundredth
at most; the eps of fused norms counts at any size, for it can be nothing else. A constant added to anything else (an
activation, however small the constant) is no stabiliser: it ends the symmetry.
"""

from __future__ import annotations

import operator
from typing import Any

from torch import fx

from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.lowering.capture.captured import is_node, operation_name, place

__all__ = ["LARGEST", "stabiliser"]

LARGEST = 1e-2


def stabiliser(node: fx.Node, value: float) -> Breaking | None:
    """The constant that ``node`` adds to (or clamps at) its first tensor as an eps, or None where it is none."""
    held = next((a for a in node.args[:2] if is_node(a) and _is_tensor(a)), None)
    if not 0 < value <= LARGEST or held is None or not _is_size(held) or not _divides(node):
        return None
    return Breaking("eps", float(value), place(node))


def _is_tensor(node: Any) -> bool:
    return getattr(node.meta.get("val"), "shape", None) is not None


_KEPT = frozenset(
    f"aten.{name}"
    for name in (
        "to", "_to_copy", "type_as", "clone", "contiguous", "view", "reshape", "unsqueeze", "squeeze", "expand",
        "transpose", "permute", "flatten", "expand_as", "alias", "slice", "select", "index",
    )
)  # fmt: skip
_SIZES = frozenset(
    f"aten.{name}"
    for name in (
        "abs", "square", "relu", "exp", "sigmoid", "softmax", "_softmax", "softplus", "sqrt", "rsqrt", "var", "std",
        "norm", "linalg_vector_norm", "linalg_norm", "norm_except_dim", "frobenius_norm",
    )
)  # fmt: skip
_OF_SIZES = frozenset(f"aten.{name}" for name in ("sum", "mean", "amax", "cumsum", "topk", "sort", "max"))
_JOINED = frozenset(f"aten.{name}" for name in ("add", "mul", "div", "matmul", "bmm", "mm", "maximum"))


def _is_size(node: Any) -> bool:
    """Whether the tensor is never negative, by the operation that makes it."""
    if isinstance(node, (int, float)):
        return node > 0
    if not is_node(node) or node.op != "call_function":
        return False
    if node.target is operator.getitem:
        whole = node.args[0]
        first = operation_name(whole) in ("aten.var_mean", "aten.std_mean") and node.args[1] == 0
        return first or (operation_name(whole) in _OF_SIZES and _is_size(whole))
    name = operation_name(node).rstrip("_")
    if name in _KEPT or name in _OF_SIZES or name in ("aten.clamp", "aten.clamp_min"):
        return _is_boolean(node.args[0]) or _is_size(node.args[0])
    if name == "aten.pow":
        return isinstance(node.args[1], (int, float)) and (node.args[1] % 2 == 0 or _is_size(node.args[0]))
    if name == "aten.mul" and node.args[0] is node.args[1]:
        return True
    return name in _SIZES or (name in _JOINED and all(_is_size(a) for a in node.args[:2]))


def _is_boolean(node: Any) -> bool:
    return is_node(node) and str(getattr(node.meta.get("val"), "dtype", "")) == "torch.bool"


def _divides(node: fx.Node) -> bool:
    """Whether all that reads the tensor takes its root or divides by it."""
    readers = [user for user in node.users if "assert" not in str(user.target)]
    return bool(readers) and all(_root_or_quotient(user, node) for user in readers)


def _root_or_quotient(user: Any, node: fx.Node) -> bool:
    name = operation_name(user).rstrip("_")
    if name in _KEPT:
        return user.args[0] is node and _divides(user)
    if name == "aten.pow":
        return user.args[0] is node and isinstance(user.args[1], (int, float)) and user.args[1] < 1
    if name in ("aten.div", "aten.true_divide"):
        return user.args[1] is node and user.args[0] is not node
    return name in ("aten.sqrt", "aten.rsqrt", "aten.reciprocal")
