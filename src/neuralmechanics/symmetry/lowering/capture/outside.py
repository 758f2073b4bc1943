"""Functions that are computed outside torch, by a user's ``autograd.Function``: one operation without a rule each."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn

from neuralmechanics.symmetry.lowering.capture.captured import Outside

__all__ = ["calling_outside", "is_outside", "mark_outside", "run_outside"]

_OPERATION = "neuralmechanics::outside"
_active = threading.local()

# What ``Function.apply`` calls: replaced here, it is met also by an ``apply`` that was bound beforehand.
_Base: Any = torch.autograd.function._SingleLevelFunction


@torch.library.custom_op(_OPERATION, mutates_args=())
def _outside(inputs: list[Tensor], number: int) -> list[Tensor]:
    """Runs the function of that number of the capture under way; its results share memory with nothing."""
    functions: list[Outside] = _active.functions
    # A custom operation may not return its inputs or views of them, which ``apply`` often does.
    return [result.detach().clone() for result in functions[number].function(inputs)]


def is_outside(node: fx.Node) -> bool:
    """Whether the node is such an operation."""
    return node.op == "call_function" and node.target is torch.ops.neuralmechanics.outside.default


def run_outside(node: fx.Node, functions: Sequence[Outside], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The operation as training runs it, with the backward that the user wrote."""
    return functions[_number(node)].function(inputs)


def _number(node: fx.Node) -> int:
    return int(str(node.args[1]))


def mark_outside(graph: fx.Graph, functions: Sequence[Outside]) -> None:
    """Notes on every such operation the function's name and the layer that calls it."""
    for node in graph.nodes:
        if is_outside(node):
            function = functions[_number(node)]
            node.meta["outside"], node.meta["layer"] = function.name, function.layer


@contextmanager
def calling_outside(model: nn.Module) -> Iterator[list[Outside]]:
    """Inside, every ``apply`` of an ``autograd.Function`` that is not torch's own becomes one operation."""
    functions: list[Outside] = []
    layers = {id(module): name or type(module).__name__ for name, module in model.named_modules()}

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        plain = super(_Base, cls).apply
        # torch's own functions (checkpoints, norms) are made of operations that the trace can see.
        if cls.__module__.split(".")[0] == "torch":
            return plain(*args, **kwargs)
        return _recorded(functions, plain, f"{cls.__name__}.apply", _layer(layers), args, kwargs)

    _Base.apply = classmethod(apply)
    _active.functions = functions
    try:
        yield functions
    finally:
        del _Base.apply
        _active.functions = []


def _recorded(
    functions: list[Outside], plain: Any, name: str, layer: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The call as one operation on its tensors; what else it takes and how its results nest is kept beside."""
    places = [k for k, value in enumerate(args) if isinstance(value, Tensor)]
    nest: dict[str, Any] = {}

    def function(inputs: Sequence[Tensor]) -> list[Tensor]:
        given = list(args)
        for k, value in zip(places, inputs, strict=True):
            given[k] = value
        result = plain(*given, **kwargs)
        results = result if isinstance(result, tuple) else (result,)
        nest.update(several=isinstance(result, tuple), results=results)
        return [r for r in results if isinstance(r, Tensor)]

    functions.append(Outside(function, name, layer))
    inputs = [args[k] for k in places]
    given = iter(torch.ops.neuralmechanics.outside(inputs, len(functions) - 1))
    results = tuple(next(given) if isinstance(entry, Tensor) else entry for entry in nest["results"])
    return results if nest["several"] else results[0]


def _layer(layers: dict[int, str]) -> str:
    """The innermost module of the model on the call stack."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if id(owner) in layers and isinstance(owner, nn.Module):
            return layers[id(owner)]
        frame = frame.f_back
    return "the model"
