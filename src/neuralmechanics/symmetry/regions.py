"""Regions of a captured graph that run under autocast or without gradients, written out in place."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

__all__ = ["cut_gradients", "written_out"]


def written_out(module: fx.GraphModule, trainable: frozenset[str]) -> fx.Graph:
    """The module's graph with every autocast region in place, and the gradient-free ones that no parameter enters.

    A region without gradients that a parameter does enter stays one opaque operation: what leaves it is no function
    that training sees.
    """
    graph = module.graph
    reached: set[fx.Node] = set()
    for node in list(graph.nodes):
        if node.name in trainable or any(n in reached for n in node.all_input_nodes):
            reached.add(node)
        kind = getattr(node.target, "__name__", str(node.target)) if node.op == "call_function" else ""
        opaque = kind == "wrap_with_set_grad_enabled" and node in reached and node.args[0] is False
        if kind in ("wrap_with_autocast", "wrap_with_set_grad_enabled") and not opaque:
            reached |= _write_out(module, node, reached)
    return graph


def cut_gradients(graph: fx.Graph) -> None:
    """Ends the gradient where a traced stretch without gradients is left: its results are read through ``detach``."""
    stretch: list[fx.Node] = []
    enabled = True
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target is torch._C._set_grad_enabled:
            enabled = bool(node.args[0])
            graph.erase_node(node)
        elif not enabled and node.op == "call_function":
            stretch.append(node)
    inside = set(stretch)
    for node in stretch:
        value = node.meta.get("val")
        readers = [user for user in node.users if user not in inside]
        if readers and isinstance(value, torch.Tensor) and value.is_floating_point():
            with graph.inserting_after(node):
                cut = graph.call_function(torch.ops.aten.detach.default, (node,))
            cut.meta = dict(node.meta)
            for reader in readers:
                reader.replace_input_with(node, cut)


def _write_out(module: fx.GraphModule, node: fx.Node, reached: set[fx.Node]) -> set[fx.Node]:
    """Copies the region's operations in front of ``node``; returns those that a parameter reaches."""
    place = next(k for k, a in enumerate(node.args) if isinstance(a, fx.Node) and a.op == "get_attr")
    region: Any = module.get_submodule(str(node.args[place].target))  # type: ignore[union-attr]
    values: dict[fx.Node, Any] = {}
    inputs = iter(node.args[place + 1 :])
    new: set[fx.Node] = set()
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
                if any(n in reached or n in new for n in copy.all_input_nodes):
                    new.add(copy)
    for user in list(node.users):
        if user.target is operator.getitem:
            user.replace_all_uses_with(results[user.args[1]])
            node.graph.erase_node(user)
    if not isinstance(results, (tuple, list)):
        node.replace_all_uses_with(results)
    if not node.users:
        node.graph.erase_node(node)
    return new
