"""Operations that write into a tensor, read off torch's own schemas."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import operation_name

__all__ = ["functional_name", "is_in_place", "needs_functional_form", "written_arguments", "written_placeholders"]


def is_in_place(node: fx.Node) -> bool:
    """Whether the operation writes into its first argument and gives it back: the schema says so, not the name."""
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None or not schema.is_mutable or not schema.arguments:
        return False
    first = schema.arguments[0].alias_info
    back = schema.returns[0].alias_info if schema.returns else None
    return first is not None and first.is_write and back is not None and first.before_set == back.before_set


def functional_name(node: fx.Node) -> str:
    """The name of the operation, of one in place that of the operation which gives the same as a new tensor."""
    name = operation_name(node)
    if not is_in_place(node):
        return name
    space, _, own = name.rpartition(".")
    plain = f"__{own.removeprefix('__i')}" if own.endswith("__") else own.removesuffix("_")
    return f"{space}.{plain}"


def written_arguments(node: fx.Node) -> tuple[int | str, ...]:
    """Positions and names of the arguments that the operation writes into."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return ()
    written: list[int | str] = []
    for position, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written.append(position if position < len(node.args) else argument.name)
    return tuple(written)


def written_placeholders(graph: fx.Graph) -> frozenset[str]:
    """Names of the graph's inputs that an operation writes into, directly or through views of them."""
    found = set()
    for node in graph.nodes:
        for position in written_arguments(node) if node.op == "call_function" else ():
            target = node.args[position] if isinstance(position, int) else node.kwargs.get(position)
            while isinstance(target, fx.Node) and target.op == "call_function" and target.args:
                target = target.args[0] if _may_be_a_view(target) else None
            if isinstance(target, fx.Node):
                found.add(target.name)
    return frozenset(found)


def needs_functional_form(graph: fx.Graph) -> bool:
    """Whether an operation writes into a tensor in a way that the walk over the graph could misread.

    Writing in place into a tensor that is neither a view nor viewed elsewhere is the functional operation followed by
    renaming; anything else needs the graph to be rewritten without mutation.
    """
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        written = written_arguments(node)
        if not written:
            continue
        # The walk renames the first argument alone: a write into another would pass unseen.
        if not is_in_place(node) or written != (0,):
            return True
        target = node.args[0]
        if not isinstance(target, fx.Node):
            return True
        if target.op == "placeholder":
            continue
        others = [user for user in target.users if user is not node]
        if _may_be_a_view(target) or any(_may_share(user, target) for user in others):
            return True
    return False


def _may_be_a_view(node: fx.Node) -> bool:
    """Whether the node's result may share memory with another tensor."""
    if node.op != "call_function":
        return True
    if is_in_place(node) or node.target is operator.getitem:  # of several results, as the operation that made them
        return not isinstance(node.args[0], fx.Node) or _may_be_a_view(node.args[0])
    schema = getattr(node.target, "_schema", None)
    if schema is None or _gives_back(node):
        return True
    return any(result.alias_info is not None for result in schema.returns)


def _gives_back(node: fx.Node) -> bool:
    """Whether the operation may hand back its very input though its schema speaks of a new tensor.

    What draws random numbers in training (dropout) does so in evaluation, and others where there is nothing to convert.
    """
    if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
        return True
    made = node.meta.get("val")
    read = (n.meta.get("val") for n in node.all_input_nodes)
    return _memory(made) is not None and any(_memory(value) == _memory(made) for value in read)


def _memory(value: object) -> int | None:
    """The memory behind a tensor, as a number."""
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
        return None
    # The tensors of a derivative that is being taken are wrapped, once a level, and have the memory of what they wrap.
    while torch._C._functorch.is_functorch_wrapped_tensor(value):
        value = torch._C._functorch.get_unwrapped(value)
    return int(value.untyped_storage()._cdata)


def _may_share(user: fx.Node, operand: fx.Node) -> bool:
    """Whether the result of ``user`` may share memory with ``operand``."""
    schema = getattr(user.target, "_schema", None)
    if user.op == "output":
        return False
    if user.target is operator.getitem:
        return _may_be_a_view(user)
    # Without a schema nothing is known, and a view must be assumed.
    if schema is None or _gives_back(user):
        return True
    return any(argument.alias_info is not None for argument in _arguments(schema, user, operand))


def _arguments(schema: torch.FunctionSchema, user: fx.Node, operand: fx.Node) -> Iterator[Any]:
    """The schema's entries for the arguments that are, or hold, ``operand``."""
    for position, argument in enumerate(schema.arguments):
        value = user.args[position] if position < len(user.args) else user.kwargs.get(argument.name)
        held = value if isinstance(value, (tuple, list)) else (value,)
        if any(entry is operand for entry in held):
            yield argument
