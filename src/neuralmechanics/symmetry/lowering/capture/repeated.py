"""Operations that a graph holds twice, made one: the same function of the same values has one name."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import Captured, is_node
from neuralmechanics.symmetry.lowering.capture.in_place import written_arguments

__all__ = ["merge_repeated"]


def merge_repeated(captured: Captured) -> Captured:
    """Lets every operation that repeats an earlier one on the same operands give the earlier one's result.

    Left alone: what draws random numbers, what writes or is written into, and functions without a schema.
    """
    graph = captured.graph
    # A value that is written into is another one afterwards, under the same name.
    written = {node.args[k] for node in graph.nodes for k in written_arguments(node) if isinstance(k, int)}
    first: dict[Hashable, fx.Node] = {}
    merged: dict[Any, fx.Node] = {}
    for node in list(graph.nodes):
        key = _key(node, written)
        if key is None:
            continue
        earlier = first.setdefault(key, node)
        if earlier is not node:
            node.replace_all_uses_with(earlier)
            graph.erase_node(node)
            merged[node] = earlier
    outputs = tuple(merged.get(node, node) for node in captured.outputs)
    results = tuple(merged.get(entry, entry) if is_node(entry) else entry for entry in captured.results)
    return replace(captured, outputs=outputs, results=results)


def _key(node: fx.Node, written: set[Any]) -> Hashable:
    """What two nodes share that compute the same; None for those that nothing may stand in for."""
    if node.op != "call_function" or node in written or any(n in written for n in node.all_input_nodes):
        return None
    if not isinstance(node.target, torch._ops.OpOverload) or torch.Tag.nondeterministic_seeded in node.target.tags:
        return None
    if node.target.namespace != "aten" or node.target._schema.is_mutable or not node.all_input_nodes:
        return None
    return node.target, _frozen(node.args), _frozen(node.kwargs)


def _frozen(value: Any) -> Hashable:
    """An argument in a form that can be compared: whole numbers, truth values and fractions are kept apart."""
    if isinstance(value, (tuple, list)):
        return tuple(_frozen(entry) for entry in value)
    if isinstance(value, dict):
        return tuple(sorted((name, _frozen(entry)) for name, entry in value.items()))
    # 1, 1.0 and True are equal as keys, and not as arguments.
    return value if isinstance(value, fx.Node) else (type(value), repr(value))
