"""What the operations behind primitives compute, as functions for ``domains.evaluate`` and the printed program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import operation_name
from neuralmechanics.symmetry.lowering.capture.in_place import written_arguments
from neuralmechanics.symmetry.program.attributes.function import IDENTITY as SAME
from neuralmechanics.symmetry.program.attributes.function import RESULT, Function

__all__ = ["bound", "function_of", "is_elementwise", "outcome", "parity"]


def bound(node: fx.Node, *held: int, part: int | None = None) -> Function:
    """The operation as a function of its arguments at the positions ``held`` (the first), the others given.

    ``part``: which of several results.
    """
    operands = [node.args[k] for k in held or (0,)]
    others = [n for n in node.all_input_nodes if n not in operands]

    def apply(*tensors: Any) -> Any:
        values = dict(zip((*operands, *others), tensors, strict=True))
        args: list[Any] = list(fx.node.map_arg(node.args, lambda n: values[n]))
        for k in written_arguments(node):
            if isinstance(k, int):
                # The operation writes into it, and the caller's tensor is not to change.
                args[k] = args[k].clone()
        out = node.target(*args, **fx.node.map_arg(node.kwargs, lambda n: values[n]))  # type: ignore[operator]
        return out if part is None else out[part]

    name = operation_name(node).removeprefix("aten.")
    return Function(name, apply, tuple(n.name for n in others), (held, part, repr(node.args[1:]), repr(node.kwargs)))


def is_elementwise(node: fx.Node) -> bool:
    """Whether each entry of the result is made of the entries in the same place."""
    tagged = torch.Tag.pointwise in getattr(node.target, "tags", ())
    return tagged or operation_name(node) in ("aten.polar", "aten.complex", "aten.floor_divide")


def parity(node: fx.Node) -> int:
    """-1 for an odd function of one tensor, f(-x) = -f(x), 1 for an even one, 0 for any other."""
    name = operation_name(node).removeprefix("aten.").removeprefix("special_").rstrip("_")
    # Another tensor (a bound, a slope) has signs of its own.
    if len(node.all_input_nodes) != 1:
        return 0
    bounds = (*node.args[1:3], *(-1.0, 1.0)[len(node.args[1:3]) :])
    if name == "hardtanh" and not node.kwargs and isinstance(bounds[0], (int, float)):
        return -1 if bounds[0] == -bounds[1] else 0  # type: ignore[operator]
    return -1 if name in _ODD else 1 if name in _EVEN else 0


_ODD = ("tanh", "sin", "tan", "asin", "atan", "sinh", "asinh", "atanh", "erf", "erfinv", "hardshrink", "softshrink")
_EVEN = ("abs", "absolute", "cos", "cosh", "sinc", "i0")


def outcome(node: fx.Node, part: int | None = None) -> Function:
    """What the operation gives in a run, for results that are not written as functions of anything."""
    return Function(RESULT, lambda value: value if part is None else value[part], (node.name,), part)


def function_of(name: str, apply: Callable[..., Any], *nodes: Any, settings: Any = ()) -> Function:
    """A function of the operands and of what ``nodes`` of the graph hold; numbers among these are taken as they are."""
    names = tuple(n.name for n in nodes if isinstance(n, fx.Node))

    def applied(*tensors: Any) -> Any:
        count = len(tensors) - len(names)
        given = iter(tensors[count:])
        return apply(*tensors[:count], *(next(given) if isinstance(n, fx.Node) else n for n in nodes))

    told = (settings, *(None if isinstance(n, fx.Node) else repr(n) for n in nodes))
    return Function(name, applied, names, told)


IDENTITY = Function(SAME, lambda x: x)
ABSOLUTE = Function("abs", torch.abs)
