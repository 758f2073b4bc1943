"""What parameters reach, what outputs depend on, and what is made of the model's own numbers alone."""

from __future__ import annotations

from dataclasses import replace

from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.lowering.capture.in_place import is_in_place

__all__ = ["dependents", "live", "numbers_of"]


def dependents(captured: Captured) -> frozenset[fx.Node]:
    """The nodes that a trainable parameter reaches."""
    reached: set[fx.Node] = set()
    for node in captured.graph.nodes:
        if node.name in captured.parameters or any(n in reached for n in node.all_input_nodes):
            reached.add(node)
            if is_in_place(node):
                reached.add(node.args[0])
    return frozenset(reached)


def live(captured: Captured) -> Captured:
    """The same without parameters that no output depends on: nothing that a loss could see moves them."""
    reached: set[fx.Node] = set()
    frontier: list[fx.Node] = list(captured.outputs)
    frontier += [node for node in captured.graph.nodes if is_in_place(node)]
    while frontier:
        node = frontier.pop()
        if node not in reached:
            reached.add(node)
            frontier += node.all_input_nodes
    names = {node.name for node in reached}
    parameters = {place: name for place, name in captured.parameters.items() if place in names}
    return replace(captured, parameters=parameters)


def numbers_of(captured: Captured) -> frozenset[fx.Node]:
    """What is computed from the model's own numbers (buffers, tables) alone."""
    made: set[fx.Node] = set()
    for node in captured.graph.nodes:
        drawn = any(word in str(node.target) for word in _RANDOM)
        computed = node.op == "call_function" and not drawn and all(n in made for n in node.all_input_nodes)
        if computed or _is_number(captured, node):
            made.add(node)
    return frozenset(made)


def _is_number(captured: Captured, node: fx.Node) -> bool:
    source = captured.sources.get(node.name)
    return source is not None and source.kind in ("buffer", "constant")


_RANDOM = ("rand", "normal", "bernoulli", "uniform", "dropout", "exponential", "cauchy")
