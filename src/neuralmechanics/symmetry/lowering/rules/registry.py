"""The table of rules: one function for each ATen operation, written once for every kind of symmetry."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from torch import fx

from neuralmechanics.symmetry.program.value import Value

__all__ = ["DECOMPOSITIONS", "RULES", "Dims", "Operand", "Rule", "Sizes", "number_in", "rule", "settings"]

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
DECOMPOSITIONS: dict[str, Callable[..., Any]] = {}  # operations that stand for functions in torch
Operand = Value | float  # a tensor, or a number that stands for one filled with it
Sizes = int | Sequence[int]  # one for all windowed dimensions, or one each
Dims = int | Sequence[int] | None  # one dimension, several, or all


def rule(*operations: str, prefix: str = "aten.") -> Callable[[Rule], Rule]:
    """Registers a function ``(builder, node, *args, **kwargs) -> value`` for ATen operations (names without ``aten.``).

    The function writes the operation in terms of primitives, by the methods of ``builder.Builder``. Tensors arrive as
    values of the program, everything else as it stands in the graph. ``d.fix`` and ``d.nonlinear`` say that the
    operation admits no change; where it may admit some that the rule does not follow it raises ``NotSoughtError``, and
    ``UnsupportedFormError`` for arguments that it does not know. Either fixes all operands.
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


def is_number(x: object) -> bool:
    return isinstance(x, (int, float))


def number_in(x: object) -> float | None:
    """x as a number: itself, or what fills a tensor that no parameter reaches."""
    if isinstance(x, (int, float)) and not isinstance(x, bool):
        return float(x)
    return x.constant_number() if isinstance(x, Value) else None
