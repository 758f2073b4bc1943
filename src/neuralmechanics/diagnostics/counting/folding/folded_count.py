"""Counting laws at a place that relabelings of channels leave as it is: ranks of many small parts.

The rank of gradients and brackets at any place θ₀ bounds the generic rank from below, for minors that are not zero
there are not zero nearby. So θ₀ may be chosen. At a place that a group G of relabelings does not move, g∇φ_x(θ₀) =
∇φ_{gx}(θ₀), and the same for brackets: what they span is a sum of isotypic parts, each of which needs D/|G| functions
alone. Nothing is lost where the ranks reach D minus those of the known generators and laws, which no place exceeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.diagnostics.counting.brackets.deepening import Deepening
from neuralmechanics.diagnostics.counting.folding.equivariance import relabelings
from neuralmechanics.diagnostics.counting.folding.folded_span import FoldedSpan
from neuralmechanics.diagnostics.counting.folding.group import RelabelingGroup, generated
from neuralmechanics.diagnostics.counting.known_laws import KnownSymmetries, Unit, held_units
from neuralmechanics.diagnostics.counting.optimizer_fields import GradientFlow
from neuralmechanics.diagnostics.counting.point_moves import fresh_place
from neuralmechanics.diagnostics.counting.potentials import Potentials
from neuralmechanics.diagnostics.counting.rank import Gap

__all__ = ["FoldedCount", "folded_count"]

Tell = Callable[[str], None]
# Gradients by which a generator is verified, at a generic place.
_WITNESSES = 64
# Parts of up to this size take seconds: smaller ones are not sought.
_COMFORTABLE = 500
# Functions a column of a part at first and beside them, and how often they are doubled where a rank may still rise.
_FUNCTIONS, _LEAST, _DOUBLINGS = 1.3, 64, 3


@dataclass(frozen=True)
class FoldedCount:
    """Ranks at the symmetric place: of gradients, of all directions with brackets, of known generators and laws."""

    group: RelabelingGroup
    gradients: int
    directions: int
    generators: int
    laws: int
    levels: int
    gaps: tuple[Gap, ...]
    known: tuple[str, ...]


def folded_count(
    potentials: Potentials, symmetries: KnownSymmetries, largest: int, max_level: int, tolerance: float, tell: Tell
) -> FoldedCount | None:
    """The ranks that bound the number of laws of gradient flow; None where no group makes all parts small enough.

    ``largest``: the most columns that a part may have.
    """
    units = _held(potentials, symmetries, tolerance)
    place = _best_place(potentials, units, largest, tolerance, tell)
    if place is None:
        return None
    conserved = [unit.at(potentials, place.theta) for unit in units if unit.conserved]
    laws, law_gaps = _rank_of(potentials, place.group, conserved, tolerance, "known laws")
    gaps = [*place.gaps, *law_gaps]
    gradients = place.span.rank
    potentials.require_brackets(place.theta)
    deepening = Deepening(potentials, GradientFlow(), place.theta, lambda vectors: vectors, tell)
    levels = deepening.extend(place.span, potentials.dimension - laws, range(1, max_level + 1), gaps)
    names = dict.fromkeys(getattr(unit.family, "name", "an exchange of two vectors") for unit in conserved)
    return FoldedCount(
        place.group, gradients, place.span.rank, place.generators, laws, levels, tuple(gaps), tuple(names)
    )


@dataclass(frozen=True, eq=False)
class _SymmetricPlace:
    group: RelabelingGroup
    theta: Float64[Tensor, " D"]
    span: FoldedSpan
    generators: int
    gaps: tuple[Gap, ...]

    @property
    def explained(self) -> bool:
        return self.span.rank + self.generators >= self.theta.numel()


def _held(potentials: Potentials, symmetries: KnownSymmetries, tolerance: float) -> list[Unit]:
    """Generators that hold at a generic place: at a symmetric one a false one might."""
    theta = fresh_place(potentials)
    witnesses = torch.cat(list(potentials.gradients(theta, _WITNESSES)))
    # A batch gives more rows than were asked for; any of them will do.
    chosen = torch.randperm(len(witnesses), generator=potentials.generator)[:_WITNESSES]
    return held_units(potentials, symmetries, theta, witnesses[chosen], tolerance)


def _best_place(
    potentials: Potentials, units: list[Unit], largest: int, tolerance: float, tell: Tell
) -> _SymmetricPlace | None:
    """The first place, from large groups to smaller ones, where known generators fill the fibre; else the best seen."""
    best: _SymmetricPlace | None = None
    for group in _groups(potentials, largest):
        place = _place(potentials, group, units, tolerance, tell)
        settled = place.explained or (best is not None and place.span.rank == best.span.rank)
        if best is None or place.span.rank > best.span.rank:
            best = place
        if settled:
            break
    return best


def _groups(potentials: Potentials, largest: int) -> list[RelabelingGroup]:
    """Groups whose parts have at most ``largest`` columns: the first that is comfortable, then its subgroups."""
    found = sorted(relabelings(potentials), key=lambda one: -one.moved)
    chain = [generated(found[:count], potentials.dimension) for count in range(1, len(found) + 1)]
    steps = {group.order: group for group in chain if group.orbits <= largest}
    groups = [steps[order] for order in sorted(steps)]
    first = next((k for k, group in enumerate(groups) if group.orbits <= _COMFORTABLE), len(groups) - 1)
    return groups[first::-1] if groups else []


def _place(
    potentials: Potentials, group: RelabelingGroup, units: list[Unit], tolerance: float, tell: Tell
) -> _SymmetricPlace:
    """A place that the group does not move; functions are added as long as a rank may rise."""
    theta = group.fixed(fresh_place(potentials))
    moved = [unit.at(potentials, theta) for unit in units]
    generators, generator_gaps = _rank_of(potentials, group, moved, tolerance, "known generators")
    entries, rows, rank = int(_FUNCTIONS * group.orbits) + _LEAST, list[Tensor](), -1
    for _ in range(_DOUBLINGS):
        rows += potentials.gradients(theta, entries)
        before, span = rank, FoldedSpan.of(group, rows, tolerance, "gradients")
        rank = span.rank
        tell(f"group of {group.order}: {rank} of {potentials.dimension} directions, {generators} generators known")
        if rank + generators >= potentials.dimension or rank == before:
            break
        # As many again as there are: the number doubles with each round.
        entries = sum(map(len, rows))
    return _SymmetricPlace(group, theta, span, generators, (*span.gaps, *generator_gaps))


def _rank_of(
    potentials: Potentials, group: RelabelingGroup, units: list[Unit], tolerance: float, where: str
) -> tuple[int, tuple[Gap, ...]]:
    """Dimension of what units and their relabelings span: relabelled laws are laws, and relabelled generators too.

    Random combinations take the place of the units, some for each part: they span no more.
    """
    if not units:
        return 0, (Gap(float("inf"), 0.0, where),)
    rows = torch.stack([unit.xi / unit.xi.norm().clamp_min(1e-300) for unit in units])
    count = 4 * (len(rows) // group.order) + 64
    if count < len(rows):
        rows = torch.randn(count, len(rows), generator=potentials.generator, dtype=rows.dtype) @ rows
    span = FoldedSpan.of(group, [rows], tolerance, where)
    return span.rank, span.gaps
