"""The entries of tensors that are made of a model's own constants: buffers, frozen parameters, literal tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from neuralmechanics.symmetry.lowering.capture.captured import Captured, Source, is_node

__all__ = ["LARGEST", "ModelNumbers"]

LARGEST = 1 << 16  # entries of a tensor that is looked at


class ModelNumbers:
    """Runs the parts of a captured graph that neither data nor trainable parameters nor random numbers enter.

    Nor what the model writes into as it runs: a counter or an average has other numbers at the next call.
    """

    def __init__(self, captured: Captured) -> None:
        self._sources: Mapping[str, Source] = captured.sources
        self._trainable, self._written = captured.parameters, captured.written
        self._module = captured.module
        self._values: dict[fx.Node, Tensor | None] = {}
        self._names: dict[fx.Node, frozenset[str]] = {}

    def entries(self, node: fx.Node) -> np.ndarray | None:
        """The node's entries in double precision; None where something else enters, or they are not real numbers."""
        value = self._value(node)
        if value is None or value.is_complex():
            return None
        return value.detach().to(device="cpu", dtype=torch.float64).numpy()

    def names(self, node: fx.Node) -> frozenset[str]:
        """The buffers and frozen parameters that they are made of."""
        self._value(node)
        return self._names.get(node, frozenset())

    def _value(self, node: fx.Node) -> Tensor | None:
        for one in _in_order(node):
            if one not in self._values:
                self._values[one] = self._computed(one)
                inside = (self._names[n] for n in one.all_input_nodes)
                self._names[one] = frozenset().union(*inside) | self._name(one)
        return self._values[node]

    def _name(self, node: fx.Node) -> frozenset[str]:
        source = self._sources.get(node.name)
        named = source is not None and source.kind in ("buffer", "parameter") and node.name not in self._trainable
        return frozenset((source.name.removeprefix("model."),)) if named and source is not None else frozenset()

    def _computed(self, node: fx.Node) -> Tensor | None:
        if node.op == "placeholder":
            source = self._sources.get(node.name)
            # A literal is made anew at every call.
            moved = node.name in self._written and source is not None and source.kind != "constant"
            known = source is not None and node.name not in self._trainable and not moved and source.kind != "input"
            return _small(source.value) if known and source is not None else None
        if node.op == "get_attr":
            held: Any = self._module
            for part in str(node.target).split("."):
                held = getattr(held, part, None)
            return _small(held)
        if node.op != "call_function" or not _repeatable(node):
            return None
        if any(self._values[n] is None for n in node.all_input_nodes):
            return None
        args: Any = fx.node.map_arg(node.args, lambda n: self._values[n])
        kwargs: Any = fx.node.map_arg(node.kwargs, lambda n: self._values[n])
        given = [value.clone() if isinstance(value, Tensor) else value for value in args] if _writes(node) else args
        with torch.no_grad():
            made = _small(node.target(*given, **kwargs))  # type: ignore[operator]
        # What writes nothing new, such as detaching in place, leaves the numbers that it is given.
        return made if given is args or _unwritten(given, args, len(node.all_input_nodes)) else None


def _in_order(node: fx.Node) -> list[fx.Node]:
    """The node and all that it is computed from, each behind what enters it."""
    found: dict[fx.Node, None] = {}
    # With a list of its own, for chains of operations are longer than Python's stack is deep.
    waiting = [node]
    while waiting:
        one = waiting[-1]
        fresh = [n for n in one.all_input_nodes if n not in found]
        if fresh:
            waiting += fresh
            continue
        found[waiting.pop()] = None
    return list(found)


def _small(value: Any) -> Tensor | None:
    # Subclasses (quantised, sharded, functional tensors) do other things when they are called.
    plain = type(value) in (Tensor, torch.nn.Parameter) and not value.is_meta
    return value if plain and value.numel() <= LARGEST else None


def _writes(node: fx.Node) -> bool:
    schema: Any = getattr(node.target, "_schema", None)
    return bool(schema.is_mutable)


def _unwritten(after: Sequence[Any], before: Sequence[Any], count: int) -> bool:
    """Whether all tensors that entered stand among these, and hold what they held."""
    pairs = [(a, b) for a, b in zip(after, before, strict=True) if isinstance(a, Tensor)]
    return len(pairs) == count and all(torch.equal(a, b) for a, b in pairs)


def _repeatable(node: fx.Node) -> bool:
    """Whether a second run on copies gives the same: no random numbers, sizes that are numbers."""
    schema = getattr(node.target, "_schema", None)
    value = node.meta.get("val")
    if schema is None or torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
        return False
    if not isinstance(value, Tensor) or not all(isinstance(n, int) for n in value.shape) or value.numel() > LARGEST:
        return False
    return all(is_node(n) and isinstance(n.meta.get("val", 0), (Tensor, int, float)) for n in node.all_input_nodes)
