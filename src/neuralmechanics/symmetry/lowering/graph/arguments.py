"""Arguments of operations where rules look for them: by position, in the order of the schema."""

from __future__ import annotations

from torch import fx

__all__ = ["place_arguments"]


def place_arguments(graph: fx.Graph) -> None:
    """Gives every operation its arguments by position, whichever way the model wrote them; what is keyword-only stays.

    A rule that reads a setting at its position would take one that is given by name for left out.
    """
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None or not node.kwargs:
            continue
        named, args = dict(node.kwargs), list(node.args)
        places = [a for a in schema.arguments if not a.kwarg_only]
        last = max((k for k, a in enumerate(places) if a.name in named), default=-1)
        args += [named.pop(argument.name, argument.default_value) for argument in places[len(args) : last + 1]]
        node.args, node.kwargs = tuple(args), named
