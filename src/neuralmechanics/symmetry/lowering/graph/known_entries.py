"""Whole numbers that the code of a model holds: positions that are the same for any data."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx

from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.lowering.capture.in_place import written_arguments
from neuralmechanics.symmetry.lowering.sizes import known

__all__ = ["entries_of", "note_known_entries", "whole_numbers"]

_LARGEST = 1 << 16  # entries that are worth knowing: lists of positions, not masks of many tokens by many
_KINDS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


def entries_of(argument: Any) -> Tensor | None:
    """The entries of a tensor of whole numbers or of a mask, where they are written in the model's code."""
    return argument.meta.get("entries") if isinstance(argument, fx.Node) else None


def whole_numbers(argument: Any) -> list[int] | None:
    """The same as a list, in order."""
    entries = entries_of(argument)
    return None if entries is None else [int(n) for n in entries.reshape(-1).tolist()]


def note_known_entries(captured: Captured) -> None:
    """Notes on every operation what it gives, where it is made of numbers in the code alone.

    Buffers are no such numbers: they are loaded, and on the meta device they have none.
    """
    for node in captured.graph.nodes:
        node.meta.pop("entries", None)
        found = None
        if _is_small(node.meta.get("val")):
            found = _held(captured, node) if node.op == "placeholder" else _computed(node)
        if found is not None:
            node.meta["entries"] = found
        for written in _written(node):  # what it held before is no longer known to hold for whoever reads it
            if found is None or not torch.equal(found, written.meta["entries"]):
                written.meta.pop("entries", None)
                node.meta.pop("entries", None)


def _written(node: fx.Node) -> list[fx.Node]:
    """What of known entries an operation writes into."""
    places = written_arguments(node) if node.op == "call_function" else ()
    arguments = (node.args[k] if isinstance(k, int) else node.kwargs.get(k) for k in places)
    return [argument for argument in arguments if isinstance(argument, fx.Node) and "entries" in argument.meta]


def _is_small(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.dtype in _KINDS
        and all(known(n) is not None for n in value.shape)
        and math.prod(value.shape) <= _LARGEST
    )


def _held(captured: Captured, node: fx.Node) -> Tensor | None:
    source = captured.sources.get(node.name)
    value = None if source is None or source.kind != "constant" else source.value
    return value.detach().cpu() if isinstance(value, Tensor) and not value.is_meta else None


def _computed(node: fx.Node) -> Tensor | None:
    """What the operation gives of entries that are known, unless it draws them."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return None
    if torch.Tag.nondeterministic_seeded in target.tags or any(entries_of(n) is None for n in node.all_input_nodes):
        return None
    places, settings = list(node.args), dict(node.kwargs)
    for place, argument in enumerate(target._schema.arguments):
        # The graph may name the device of the model, meta for one, on which there is nothing to look at.
        if argument.name == "device" and place < len(places):
            places[place] = torch.device("cpu")
        elif argument.name == "device":
            settings["device"] = torch.device("cpu")
    if any(isinstance(n, torch.SymInt) and known(n) is None for n in _leaves((places, settings))):
        return None
    given: Any = (tuple(places), settings)
    args, kwargs = fx.node.map_arg(given, lambda n: n.meta["entries"].clone())
    made = target(*args, **kwargs)
    return made if isinstance(made, Tensor) else None


def _leaves(arguments: Any) -> list[Any]:
    found: list[Any] = []
    fx.node.map_aggregate(arguments, found.append)
    return found
