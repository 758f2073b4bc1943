"""What autograd recorded on the way to a value: operations known to be wrong, and functions written by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.autograd.function import BackwardCFunction, once_differentiable

from neuralmechanics.functional.derivatives.torch_faults import FAULTS

__all__ = ["handwritten", "once_differentiable_only", "recorded", "wrong"]

# Torch numbers its nodes and adds a word for each pass that was differentiated: NativeLayerNormBackwardBackward0.
_NAME = re.compile(r"^(?P<node>.*?Backward)(?P<again>(?:Backward)*)\d*$")
# once_differentiable wraps every backward pass in one and the same code.
_ONCE = once_differentiable(lambda ctx: None).__code__


def recorded(*values: Tensor) -> Iterator[Any]:
    """Every node of the graphs behind ``values``, each once."""
    # Without it a graph that branches and joins, as each residual connection does, is walked 2^depth times.
    seen: set[Any] = set()
    open_nodes: list[Any] = [value.grad_fn for value in values]
    while open_nodes:
        node = open_nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            open_nodes.extend(parent for parent, _ in node.next_functions)
            yield node


def wrong(value: Tensor, order: int) -> tuple[str, ...]:
    """Operations behind ``value`` whose derivative of that order torch gets wrong.

    A node of a backward pass, where the loss differentiates inside, has used up one order already.

    >>> import torch
    >>> x = torch.randn(2, 3, requires_grad=True)
    >>> normed = torch.nn.functional.layer_norm(x, [3]).sum()
    >>> wrong(normed, 2), wrong(normed, 3)
    ((), ('layer_norm',))
    """
    found: dict[str, None] = {}
    for node in recorded(value):
        match = _NAME.match(node.name())
        for fault in FAULTS if match else ():
            known = any(match["node"] == n or n in match["node"] for n in fault.nodes)  # type: ignore[index]
            if known and fault.order - match["again"].count("Backward") <= order:  # type: ignore[index]
                found[fault.operation] = None
    return tuple(found)


def handwritten(value: Tensor) -> tuple[str, ...]:
    """Names of the ``torch.autograd.Function`` classes and registered backward passes behind ``value``."""
    return tuple(sorted({_called(node) for node in recorded(value) if isinstance(node, BackwardCFunction)}))


def once_differentiable_only(value: Tensor) -> tuple[str, ...]:
    """Those of them that are marked to have no second derivative.

    Autograd leaves out what such a function would add to a second derivative, without a word, when it is asked for
    the derivative in given tensors: the refusal that torch records lies on no way to them.
    """
    found = set()
    for node in recorded(value):
        if isinstance(node, BackwardCFunction):
            backward = getattr(getattr(node, "_forward_cls", None), "backward", None)
            if getattr(backward, "__code__", None) is _ONCE:
                found.add(_called(node))
    return tuple(sorted(found))


def _called(node: Any) -> str:
    return str(node.name()).removesuffix("Backward")
