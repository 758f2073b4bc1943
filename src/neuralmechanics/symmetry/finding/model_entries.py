"""The entries of values of a program that are made of the model's own numbers, and the names of those."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.lowering.graph.model_numbers import ModelNumbers
from neuralmechanics.symmetry.lowering.lower import Lowered
from neuralmechanics.symmetry.lowering.rules.indices.tabulated import tabulated
from neuralmechanics.symmetry.program.value import Value

__all__ = ["ModelEntries", "model_entries"]


@dataclass(frozen=True, eq=False)
class ModelEntries:
    """Looks values up in the captured graph, by index, and operations by name."""

    numbers: ModelNumbers
    sources: dict[int, fx.Node]
    nodes: dict[str, fx.Node]

    def entries(self, value: Value) -> np.ndarray | None:
        """The entries; None where data, trainable parameters or random numbers enter."""
        node = self.sources.get(value.index)
        return None if node is None else self.numbers.entries(node)

    def names(self, values: Iterable[int]) -> frozenset[str]:
        """The buffers and frozen parameters that values are made of, by their indices."""
        nodes = (self.sources[index] for index in values if index in self.sources)
        return frozenset().union(*(self.numbers.names(node) for node in nodes))

    def named(self, name: str) -> Tensor | None:
        """The tensor of an operation, with its own type of numbers."""
        node = self.nodes.get(name)
        entries = None if node is None else self.numbers.entries(node)
        kind = getattr(node.meta.get("val"), "dtype", None) if node is not None else None
        return None if entries is None or kind is None else torch.tensor(entries).to(kind)

    def operation(self, value: Value) -> str:
        """The name of the operation that gives a value; empty where none does."""
        node = self.sources.get(value.index)
        return "" if node is None else node.name

    def tabulated(self, value: Value, base: Value, count: int) -> tuple[np.ndarray, frozenset[str]] | None:
        """The entries of ``value`` where those of ``base`` are 0 to ``count`` - 1, and the buffers they are made of.

        None where each is not a function of the entry of ``base`` in the same place.
        """
        node, start = self.sources.get(value.index), self.sources.get(base.index)
        found = None if node is None or start is None else tabulated(node, start, count, self.numbers)
        return None if found is None else (found[0].double().numpy(), found[1])

    def behind(self, names: Iterable[str]) -> frozenset[str]:
        """The buffers and frozen parameters that operations are made of."""
        return frozenset().union(*(self.numbers.names(self.nodes[name]) for name in names if name in self.nodes))


def model_entries(captured: Captured, lowered: Lowered) -> ModelEntries:
    """What is known of the model's own numbers in a captured graph."""
    nodes = {node.name: node for node in captured.graph.nodes}
    return ModelEntries(ModelNumbers(captured), dict(lowered.sources), nodes)
