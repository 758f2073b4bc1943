"""Regions of a captured graph that run under autocast or without gradients, written out in place."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

__all__ = ["Operation", "cut_gradients", "written_out"]

Operation = Callable[..., torch.Tensor]


def written_out(module: fx.GraphModule, no_gradient: Operation, *, recomputed: bool = False) -> None:
    """Puts every region of the module's graph in the place of the one operation that it was captured as.

    What leaves a region without gradients is read through the operation ``no_gradient``: training sees no function
    there. Reentrant checkpoints too run their layers without gradients, but run them again on the way back;
    ``recomputed`` takes every such region for one of those. Which it is shows in the gradients, when the graph is run
    beside the model.
    """
    regions = [node for node in module.graph.nodes if _kind(node) in _REGIONS]
    silent = _written_out(module)
    if not recomputed:
        _cut(module.graph, silent, no_gradient)
    if regions:
        module.recompile()


_REGIONS = ("wrap_with_autocast", "wrap_with_set_grad_enabled")


def _kind(node: fx.Node) -> str:
    return getattr(node.target, "__name__", str(node.target)) if node.op == "call_function" else ""


def _written_out(module: fx.GraphModule) -> list[fx.Node]:
    """Writes the regions of a module out, the inner ones first; returns the operations that have no gradient."""
    silent: list[fx.Node] = []
    for node in list(module.graph.nodes):
        kind = _kind(node)
        if kind in _REGIONS:
            enabled = kind == "wrap_with_autocast" or bool(node.args[0])
            silent += _write_out(module, node, enabled)
    return silent


def cut_gradients(graph: fx.Graph, no_gradient: Operation) -> None:
    """Ends the gradient where a traced stretch without gradients is left: ``no_gradient`` reads its results."""
    stretch: list[fx.Node] = []
    enabled = True
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target is torch._C._set_grad_enabled:
            enabled = bool(node.args[0])
            graph.erase_node(node)
        elif not enabled and node.op == "call_function":
            stretch.append(node)
    _cut(graph, stretch, no_gradient)


def _cut(graph: fx.Graph, stretch: Sequence[fx.Node], no_gradient: Operation) -> None:
    inside = set(stretch)
    for node in stretch:
        value = node.meta.get("val")
        readers = [user for user in node.users if user not in inside]
        # Where the region's results leave it, and there alone: inside no gradient passes in any case.
        if readers and isinstance(value, torch.Tensor) and value.is_floating_point():
            with graph.inserting_after(node):
                cut = graph.call_function(no_gradient, (node,))
            cut.meta = dict(node.meta)
            for reader in readers:
                reader.replace_input_with(node, cut)


def _write_out(module: fx.GraphModule, node: fx.Node, enabled: bool) -> list[fx.Node]:
    """Copies the region's operations in front of ``node``; returns those of them that have no gradient."""
    # What the region runs under comes first, then the region itself, then its inputs.
    place = next(k for k, a in enumerate(node.args) if isinstance(a, fx.Node) and a.op == "get_attr")
    region: Any = module.get_submodule(str(node.args[place].target))  # type: ignore[union-attr]
    inner_silent = set(_written_out(region))
    precision = node.args[:place] if _kind(node) == "wrap_with_autocast" else None
    values: dict[fx.Node, Any] = {}
    inputs = iter(node.args[place + 1 :])
    silent: list[fx.Node] = []
    results: Any = ()
    with node.graph.inserting_before(node):
        for inner in region.graph.nodes:
            if inner.op == "placeholder":
                values[inner] = next(inputs)
            elif inner.op == "output":
                results = fx.node.map_arg(inner.args[0], lambda n: values[n])
            else:
                copy = node.graph.node_copy(inner, lambda n: values[n])
                values[inner] = copy
                if precision is not None:
                    # The innermost region decides, and it was written first.
                    copy.meta.setdefault("autocast", precision)
                if inner in inner_silent or not enabled:
                    silent.append(copy)
    for user in list(node.users):
        if user.target is operator.getitem:
            user.replace_all_uses_with(results[user.args[1]])
            node.graph.erase_node(user)
    if not isinstance(results, (tuple, list)):
        node.replace_all_uses_with(results)
    if not node.users:
        node.graph.erase_node(node)
    return silent
