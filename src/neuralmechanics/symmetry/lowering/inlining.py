"""Operations of one's own replaced by the function that they are said to compute, before the graph is run and read."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from neuralmechanics.symmetry.lowering.capture.captured import Captured, RouteError, first_line, is_node, operation_name
from neuralmechanics.symmetry.lowering.rules.registry import DECOMPOSITIONS

__all__ = ["inlined"]

_DEPTH = 16  # of decompositions inside decompositions


def inlined(captured: Captured) -> Captured:
    """The graph with every operation that has a decomposition written out.

    Raises ``ValueError`` where a decomposition does not run, or gives other shapes than the operation.
    """
    for _ in range(_DEPTH):
        found = [n for n in captured.graph.nodes if n.op == "call_function" and operation_name(n) in DECOMPOSITIONS]
        if not found:
            return captured
        for node in found:
            captured = _written_out(captured, node)
    raise ValueError(f"the decomposition of {operation_name(found[0])} calls the operation itself; write it in others")


def _written_out(captured: Captured, node: fx.Node) -> Captured:
    name = operation_name(node)
    try:
        body, given = _body(DECOMPOSITIONS[name], node)
    except Exception as error:
        raise ValueError(f"the decomposition of {name} does not run on its arguments: {first_line(error)}") from error
    results = _copied(captured, node, body, given)
    _require_shapes(name, results, node.meta.get("val"))
    becomes: dict[Any, Any] = {}
    if isinstance(results, fx.Node):
        becomes[node] = results
    else:
        for reader in list(node.users):
            if reader.target is not operator.getitem:
                raise RouteError(f"{name} gives several results, which {reader} reads at once")
            becomes[reader] = results[int(str(reader.args[1]))]
    for old, new in becomes.items():
        old.replace_all_uses_with(new)
        captured.graph.erase_node(old)
    if node not in becomes:
        captured.graph.erase_node(node)
    outputs = tuple(becomes.get(n, n) for n in captured.outputs)
    nested = tuple(becomes.get(r, r) if is_node(r) else r for r in captured.results)
    return replace(captured, outputs=outputs, results=nested)


def _body(function: Callable[..., Any], node: fx.Node) -> tuple[fx.GraphModule, list[fx.Node]]:
    """The function as a graph of the tensors that the operation is given, in the order of these."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    inputs = list(node.all_input_nodes)
    with FakeTensorMode() as mode:
        tensors = [
            torch.empty_strided(tuple(v.shape), v.stride(), dtype=v.dtype, device=v.device)
            for v in (n.meta["val"] for n in inputs)
        ]

    def called(*values: Tensor) -> Any:
        held = dict(zip(inputs, values, strict=True))
        args = fx.node.map_arg(node.args, lambda n: held[n])
        return function(*args, **fx.node.map_arg(node.kwargs, lambda n: held[n]))

    with mode:
        return make_fx(called, tracing_mode="fake", pre_dispatch=True)(*tensors), inputs


def _copied(captured: Captured, node: fx.Node, body: fx.GraphModule, given: list[fx.Node]) -> Any:
    """The nodes of the body in front of the operation, each at its place in the model; what they give."""
    env: dict[fx.Node, fx.Node] = {}
    inputs = iter(given)
    # The body's operations stand where the operation stood, so that layers and regions of autocast are kept.
    where = {key: value for key, value in node.meta.items() if key not in ("val", "tensor_meta", "outside")}
    with captured.graph.inserting_before(node):
        for inner in body.graph.nodes:
            if inner.op == "placeholder":
                env[inner] = next(inputs)
            elif inner.op == "output":
                return fx.node.map_arg(inner.args[0], lambda n: env[n])
            elif inner.op == "get_attr":
                env[inner] = _constant(captured, getattr(body, str(inner.target)))
            else:
                env[inner] = captured.graph.node_copy(inner, lambda n: env[n])
                env[inner].meta = where | {"val": inner.meta.get("val")}
    raise AssertionError("a graph ends with its output")


def _constant(captured: Captured, value: Tensor) -> fx.Node:
    """A tensor that the decomposition holds, as one more constant of the graph."""
    if captured.module is None:
        raise RouteError("the captured graph has nowhere to keep the constants of a decomposition")
    name = next(n for k in range(10**6) if not hasattr(captured.module, n := f"_decomposition_{k}"))
    setattr(captured.module, name, value)
    node = captured.graph.create_node("get_attr", name)
    node.meta["val"] = value
    return node


def _require_shapes(name: str, results: Any, value: Any) -> None:
    """ValueError where the function gives other shapes than the operation."""
    found, true = (r if isinstance(r, (tuple, list)) else (r,) for r in (results, value))
    shapes = [tuple(n.meta["val"].shape) for n in found if isinstance(n, fx.Node)]
    wanted = [tuple(v.shape) for v in true if isinstance(v, Tensor)]
    if shapes != wanted:
        raise ValueError(f"the decomposition of {name} gives shapes {shapes}, the operation {wanted}")
