"""Scalings of parameters that are counted from another point than zero: which those are, and the families' actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry.algebra.sets import distinct
from neuralmechanics.symmetry.families.actions import AffineDiagonal, Diagonal, Origin
from neuralmechanics.symmetry.finding.reading.grouping import Exponents, Group
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.lowering.graph.model_numbers import ModelNumbers
from neuralmechanics.symmetry.lowering.lower import Lowered
from neuralmechanics.symmetry.passes.rewriting.constant_offsets import without_constant_offsets
from neuralmechanics.symmetry.program.program import Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["Displaced", "displaced"]


@dataclass(frozen=True, eq=False)
class Displaced:
    """A program in terms of θ + c, the constants c by parameter, and the names of the buffers that c is made of."""

    program: Program
    constants: Mapping[str, np.ndarray]
    buffers: Mapping[str, tuple[str, ...]]

    def diagonal(self, terms: tuple[SliceTerm, ...]) -> Diagonal | AffineDiagonal:
        """Factors of θ + c; of θ where no parameter is displaced."""
        origins = self._origins(terms)
        return AffineDiagonal(terms, tuple(origins.values())) if origins else Diagonal(terms)

    def labels(self, group: Group) -> Sequence[str]:
        """One text a charge, ``1 + norm.weight[0]`` for slices that are displaced."""
        origins = self._origins(group.terms)
        return [_described(label, origins) for label in group.labels] if origins else group.labels

    def _origins(self, terms: Sequence[SliceTerm]) -> dict[str, Origin]:
        """The constants of what the terms scale."""
        names = dict.fromkeys(t.view.parameter for t in terms if self.holds(t.view, t.slices).any())
        return {name: Origin(name, self.constants[name]) for name in names}

    def basis(self, exponents: Sequence[Exponents]) -> np.ndarray:
        """The basis vectors that scale anything that is displaced."""
        found = [e.basis[self.holds(e.view, e.slices)] for e in exponents]
        return distinct(np.concatenate(found)) if found else np.zeros(0, np.int64)

    def holds(self, view: SliceView, slices: np.ndarray) -> np.ndarray:
        """Which slices hold an element with a constant."""
        if view.parameter not in self.constants:
            return np.zeros(len(slices), dtype=bool)
        # A slice is displaced where any of its elements is: one factor then scales about another point than zero.
        moved = self.constants[view.parameter] != 0
        along = moved.any(axis=view.summed, keepdims=True)
        sizes = [n if d in view.kept else 1 for d, n in enumerate(view.shape)]
        return np.asarray(np.broadcast_to(along, sizes).reshape(-1)[slices])

    def requires(self, terms: Sequence[SliceTerm]) -> tuple[str, ...]:
        """That the buffers behind these parameters' constants keep their values."""
        found = dict.fromkeys(buffer for name in self._origins(terms) for buffer in self.buffers.get(name, ()))
        return tuple(f"{buffer} keeps the values that it had" for buffer in found)


def _described(label: str, origins: Mapping[str, Origin]) -> str:
    origin = origins.get(label.partition("[")[0])
    return label if origin is None else origin.described(label)


def displaced(captured: Captured, lowered: Lowered, program: Program) -> Displaced:
    """The rewritten program with added constants taken into parameters, where nothing else sees them."""
    numbers = ModelNumbers(captured)

    def held(value: Value) -> np.ndarray | None:
        node = lowered.sources.get(value.index)
        return None if node is None else numbers.entries(node)

    offsets = without_constant_offsets(program, held)
    buffers = {}
    for name, values in offsets.made_of.items():
        nodes = [lowered.sources[index] for index in sorted(values) if index in lowered.sources]
        buffers[name] = tuple(sorted(frozenset().union(*(numbers.names(node) for node in nodes))))
    return Displaced(offsets.program, offsets.constants, buffers)
