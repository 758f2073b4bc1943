"""What the outputs of a captured graph depend on."""

from __future__ import annotations

from dataclasses import replace

from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.lowering.capture.in_place import written_arguments

__all__ = ["live"]


def live(captured: Captured) -> Captured:
    """The same without parameters that no output depends on: nothing that a loss could see moves them."""
    reached: set[fx.Node] = set()
    frontier: list[fx.Node] = list(captured.outputs)
    # A write reaches whoever reads the tensor afterwards, which the graph does not show as an edge.
    frontier += [node for node in captured.graph.nodes if node.op == "call_function" and written_arguments(node)]
    while frontier:
        node = frontier.pop()
        if node not in reached:
            reached.add(node)
            frontier += node.all_input_nodes
    names = {node.name for node in reached}
    parameters = {place: name for place, name in captured.parameters.items() if place in names}
    return replace(captured, parameters=parameters)
