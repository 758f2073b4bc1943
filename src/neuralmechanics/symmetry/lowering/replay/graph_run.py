"""A captured graph run on tensors in the way in which the walk over it reads it.

An operation that writes in place makes a new tensor: later readers of the old name see it, earlier views do not. So a
write that the walk would misread gives another value than the model's.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, fx

from neuralmechanics.symmetry.lowering.capture.captured import Captured, Source, is_node, operation_name, place
from neuralmechanics.symmetry.lowering.capture.in_place import is_in_place, written_arguments
from neuralmechanics.symmetry.lowering.capture.outside import is_outside, run_outside

__all__ = ["Conversion", "GraphError", "run_graph"]

Observer = Callable[[fx.Node, Any], None]


class GraphError(RuntimeError):
    """An operation of a captured graph that does not run: its name, its place, and what it raised."""


class Conversion:
    """What becomes of arguments and constants when a graph is run in float64 in the place of its ``own`` type.

    Without a type nothing is converted. ``cast`` tells afterwards whether the graph names its own type, to which the
    model may then have rounded.
    """

    def __init__(self, own: torch.dtype | None) -> None:
        self._own = own
        self.cast = False

    def __call__(self, value: Any) -> Any:
        if isinstance(value, torch.dtype) and value == self._own:
            self.cast = True
            return torch.float64
        if isinstance(value, torch.device) and value.type == "meta":
            return torch.device("cpu")  # a graph of tensors without content is run on real ones
        if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
            return type(value)(self(entry) for entry in value)
        if isinstance(value, dict):
            return {key: self(entry) for key, entry in value.items()}
        return value

    def constant(self, value: Any) -> Any:
        """A constant of the graph, in float64 where it is of the model's own type."""
        if not isinstance(value, Tensor) or self._own is None or value.dtype != self._own:
            return value
        self.cast = True  # it was rounded to that type
        return value.double()


def run_graph(
    captured: Captured,
    values: Callable[[Source], Any],
    convert: Conversion,
    observe: Observer | None = None,
) -> list[Any]:
    """The graph's results for the given values of its inputs; ``convert`` is put around arguments and constants."""
    env: dict[fx.Node, Any] = {}
    last = _last_readers(captured.graph)
    for node in captured.graph.nodes:
        if node.op == "output":
            break
        env[node] = _value(captured, node, env, values, convert)
        if is_in_place(node) and is_node(node.args[0]):
            env[node.args[0]] = env[node]
        if observe is not None:
            observe(node, env[node])
        # Let go at once: the activations of a large model would be held together otherwise.
        for ended in last.get(node, ()):
            env.pop(ended, None)
    return [env[entry] if is_node(entry) else entry for entry in captured.results]


def _last_readers(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """For each node, the nodes whose values nothing after it reads."""
    last: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        last |= dict.fromkeys(node.all_input_nodes, node)
    ends: dict[fx.Node, list[fx.Node]] = {}
    for node, reader in last.items():
        ends.setdefault(reader, []).append(node)
    return ends


def _value(
    captured: Captured,
    node: fx.Node,
    env: Mapping[fx.Node, Any],
    values: Callable[[Source], Any],
    convert: Conversion,
) -> Any:
    if node.op == "placeholder":
        if node.name not in captured.sources:
            raise GraphError(f"input {node.name} of the graph is no tensor of the model or the batch")
        return values(captured.sources[node.name])
    if node.op == "get_attr":
        return convert.constant(operator.attrgetter(str(node.target))(captured.module))
    args = convert(fx.node.map_arg(node.args, lambda n: env[n]))
    kwargs = convert(fx.node.map_arg(node.kwargs, lambda n: env[n]))
    try:
        with _autocast(node):
            return _called(captured, node, args, kwargs)
    except Exception as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise GraphError(f"{operation_name(node)} at {place(node)} does not run again: {text[0]}") from error


def _called(captured: Captured, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if is_outside(node):
        return run_outside(node, captured.outside, args[0])
    schema = getattr(node.target, "_schema", None)
    if schema is not None and not schema.returns and not schema.is_mutable:
        return None  # a statement about its arguments, which were others when it was recorded
    if (written_into := _written_into(node)) is not None and not kwargs:
        return _written(written_into, args)
    args, kwargs = list(args), dict(kwargs)  # type: ignore[assignment]
    for written in written_arguments(node):
        holder: Any = args if isinstance(written, int) else kwargs
        value = holder[written] if isinstance(written, int) or written in holder else None
        if isinstance(value, Tensor):
            holder[written] = value.clone()
    return node.target(*args, **kwargs)


def _written_into(node: Any) -> Callable[..., Tensor] | None:
    """Of an operation that gives a tensor with its second argument written into a part of it, what views that part."""
    schema = getattr(node.target, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema is not None else []
    # A functional copy writes into the whole of its first argument.
    if names == ["self", "src", "non_blocking"]:
        return lambda whole, *_: whole
    packet = node.target.overloadpacket if names[:2] == ["self", "src"] else None
    view = str(packet).rpartition(".")[2].removesuffix("_scatter")
    if packet is None or f"{view}_scatter" not in str(packet):
        return None
    found: Callable[..., Tensor] = getattr(getattr(torch.ops, node.target.namespace), view)
    return found


def _written(view: Callable[..., Tensor], args: tuple[Any, ...]) -> Tensor:
    """What functional writes give, by writing into a copy: torch has no derivative for some of their forms."""
    out: Tensor = args[0].clone()
    view(out, *args[2:]).copy_(args[1])
    return out


def _autocast(node: fx.Node) -> AbstractContextManager[Any]:
    """The region of reduced precision that the operation stood in."""
    settings = node.meta.get("autocast")
    return torch.autocast(*settings) if settings else nullcontext()
