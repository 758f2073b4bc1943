"""What the operations behind primitives compute, as functions for ``domains.evaluate`` and the printed program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import operation_name
from neuralmechanics.symmetry.lowering.capture.in_place import written_arguments
from neuralmechanics.symmetry.program.function import Function

__all__ = ["bound", "function_of", "is_elementwise", "outcome"]


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
                args[k] = args[k].clone()
        out = node.target(*args, **fx.node.map_arg(node.kwargs, lambda n: values[n]))  # type: ignore[operator]
        return out if part is None else out[part]

    name = operation_name(node).removeprefix("aten.")
    return Function(name, apply, tuple(n.name for n in others), (held, part, repr(node.args[1:]), repr(node.kwargs)))


def is_elementwise(node: fx.Node) -> bool:
    """Whether each entry of the result is made of the entries in the same place."""
    tagged = torch.Tag.pointwise in getattr(node.target, "tags", ())
    return tagged or operation_name(node) in ("aten.polar", "aten.complex")


def outcome(node: fx.Node, part: int | None = None) -> Function:
    """What the operation gives in a run, for results that are not written as functions of anything."""
    return Function("result", lambda value: value if part is None else value[part], (node.name,), part)


def function_of(name: str, apply: Callable[..., Any], *nodes: Any, settings: Any = ()) -> Function:
    """A function of the operands and of what ``nodes`` of the graph hold; numbers among these are taken as they are."""
    names = tuple(n.name for n in nodes if isinstance(n, fx.Node))

    def applied(*tensors: Any) -> Any:
        count = len(tensors) - len(names)
        given = iter(tensors[count:])
        return apply(*tensors[:count], *(next(given) if isinstance(n, fx.Node) else n for n in nodes))

    told = (settings, *(None if isinstance(n, fx.Node) else repr(n) for n in nodes))
    return Function(name, applied, names, told)


IDENTITY = Function("identity", lambda x: x)
ABSOLUTE = Function("abs", torch.abs)
