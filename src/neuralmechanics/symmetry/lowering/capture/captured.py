"""A captured graph: ATen operations in order, every input named, and how a node of it is described."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, fx, nn

from neuralmechanics.functional.calling import Whole

__all__ = ["Captured", "Outside", "RouteError", "Source", "first_line", "is_node", "operation_name", "place"]


class RouteError(RuntimeError):
    """What torch, or the model under its hands, raised on one way to a graph: another way may do."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@dataclass(frozen=True, eq=False)
class Source:
    """Where the value of a placeholder comes from: a named tensor of the model, a leaf of the batch, or a constant."""

    kind: Literal["parameter", "buffer", "input", "constant"]
    name: str = ""
    index: int = 0
    value: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Outside:
    """A function that is computed outside torch: what runs it on tensors, its name, and the layer that calls it."""

    function: Callable[[Sequence[Tensor]], list[Tensor]]
    name: str
    layer: str


@dataclass(frozen=True)
class Captured:
    """A graph, the parameter behind each placeholder, the trainable parameters' shapes, and how it was captured.

    ``module`` holds what the graph's attributes name; ``sources`` says for every placeholder where its value comes
    from; ``results`` are the graph's outputs in the order of the model's, with whatever is no node kept in place.
    ``writes_parameters`` is false only where the capture has seen that no operation writes into one; ``written`` names
    the placeholders that operations write into. ``whole`` and ``batch`` are what was captured, for runs of the graph.
    """

    graph: fx.Graph
    parameters: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    frozen: tuple[str, ...]
    tied: Mapping[str, str]
    outputs: tuple[fx.Node, ...]
    training: bool
    route: str
    complex: frozenset[str] = frozenset()
    module: nn.Module | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)
    results: tuple[Any, ...] = ()
    outside: Sequence[Outside] = ()
    writes_parameters: bool = True
    replayed: str = ""
    written: frozenset[str] = frozenset()
    whole: Whole | None = None
    batch: Any = None

    def requirements(self) -> tuple[str, ...]:
        """What the result holds for, beyond the mode of each operation."""
        if self.route == "export":
            return ()
        return ("the branch taken by the given batch and parameters (captured by tracing real tensors)",)


def is_node(value: Any) -> bool:
    """Whether an argument is another operation's result."""
    return isinstance(value, fx.Node)


def operation_name(node: fx.Node) -> str:
    """The operation without its overload: ``aten.linear``."""
    named = node.meta.get("outside")
    if named is not None:
        return str(named)
    target = node.target
    # Overloads (a number, a tensor, an ``out``) are one operation with one rule.
    packet = getattr(target, "overloadpacket", None)
    if packet is not None:
        return str(packet)
    return getattr(target, "__name__", str(target))


def place(node: fx.Node) -> str:
    """Where in the model the operation stands: the innermost module's path, or the node's own name."""
    layer = node.meta.get("layer")
    if layer:
        return str(layer)
    stack = node.meta.get("nn_module_stack")
    if stack:
        # The last entry is the innermost module.
        path = next(reversed(stack.values()))[0]
        path = str(path).removeprefix("model").removeprefix(".")
        if path:
            return path
    return node.name
