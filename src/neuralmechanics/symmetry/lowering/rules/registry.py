"""The table of rules: one function for each ATen operation, written once for every kind of symmetry."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from torch import fx

__all__ = ["RULES", "Rule", "number_behind", "rule", "settings"]

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


def rule(*operations: str, prefix: str = "aten.") -> Callable[[Rule], Rule]:
    """Registers a function ``(domain, node, *args, **kwargs) -> value`` for ATen operations (names without ``aten.``).

    The function translates the operation into the primitives of ``domain.Domain``. Tensor arguments arrive as the
    domain's values, everything else as it stands in the graph. ``d.fix`` and ``d.nonlinear`` say that the operation
    admits no change; where it may admit some that the rule does not follow it raises ``NotSoughtError``, and
    ``UnsupportedFormError`` for arguments that it does not know. Both fix all that enters.
    """

    def register(function: Rule) -> Rule:
        for operation in operations:
            name = prefix + operation
            if name in RULES:
                raise ValueError(f"operation {name} has a rule already: {RULES[name].__name__}")
            RULES[name] = function
        return function

    return register


def settings(node: fx.Node) -> Hashable:
    """An operation with everything but its first operand: nodes that agree in it apply the same function."""
    return str(node.target), repr(node.args[1:]), repr(node.kwargs)


def number_behind(node: object) -> float | None:
    """The number that a tensor is filled with, where the graph shows it; None otherwise."""
    if isinstance(node, (int, float)) and not isinstance(node, bool):
        return float(node)
    if not isinstance(node, fx.Node) or node.op != "call_function":
        return None
    name = str(getattr(node.target, "overloadpacket", node.target))
    if name in ("aten.zeros", "aten.zeros_like", "aten.new_zeros"):
        return 0.0
    if name in ("aten.ones", "aten.ones_like", "aten.new_ones"):
        return 1.0
    if name in ("aten.full", "aten.full_like", "aten.new_full") and isinstance(node.args[-1], (int, float)):
        return float(node.args[-1])
    if name == "aten.scalar_tensor" and isinstance(node.args[0], (int, float)):
        return float(node.args[0])
    if name in _CARRIED:
        return number_behind(node.args[0])
    if name in ("aten.mul", "aten.matmul", "aten.mm", "aten.bmm") and any(_is_zero(a) for a in node.args[:2]):
        return 0.0
    if name == "aten.linear" and len(node.args) < 3 and _is_zero(node.args[0]):
        return 0.0
    return None


_CARRIED = frozenset(
    f"aten.{name}"
    for name in [
        "to",
        "_to_copy",
        "expand",
        "clone",
        "detach",
        "lift_fresh_copy",
        "select",
        "slice",
        "view",
        "reshape",
        "unsqueeze",
        "squeeze",
        "permute",
        "transpose",
        "t",
        "contiguous",
        "repeat",
        "expand_as",
        "flatten",
        "narrow",
    ]
)


def _is_zero(node: object) -> bool:
    return isinstance(node, fx.Node) and number_behind(node) == 0.0
