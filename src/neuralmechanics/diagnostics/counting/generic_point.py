"""A place in parameter space where the gradients of all functions span as much as they can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.diagnostics.counting.known_laws import KnownSymmetries, known_generators
from neuralmechanics.diagnostics.counting.point_moves import fresh_place, loosened, redrawn
from neuralmechanics.diagnostics.counting.potentials import Potentials
from neuralmechanics.diagnostics.counting.rank import Gap, Span, matrix_rank

__all__ = ["Place", "column_scale", "generic_place"]

# Draws made without regard to each other; if their ranks agree, the rank is taken for the generic one.
_INDEPENDENT = 4
# Walks before the greatest rank seen is taken for what can be had.
_MOST_WALKS = 8
# Functions looked at before the search for new directions at one θ is given up.
_MOST_ENTRIES = 400_000


@dataclass(frozen=True, eq=False)
class Place:
    """θ, rows that span the gradients there, their rank and that of the known generators, the gaps.

    ``loose`` is the squared length of each axis outside the span of the rows (in coordinates evened out by column).
    """

    theta: Float64[Tensor, " D"]
    rows: Float64[Tensor, "rows D"]
    rank: int
    generators: int
    gaps: tuple[Gap, ...]
    loose: Float64[Tensor, " D"]

    @property
    def explained(self) -> bool:
        """Whether the known generators fill the whole fibre, so that no more directions can be found."""
        return self.rank + self.generators == self.theta.numel()


def column_scale(rows: Float64[Tensor, "rows columns"]) -> Float64[Tensor, " columns"]:
    """Column norms relative to the greatest, from 1e-3 up: evens out the coordinates without raising noise."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=0)
    return (norms / norms.max().clamp_min(1e-300)).clamp_min(1e-3)


def generic_place(
    potentials: Potentials,
    symmetries: KnownSymmetries,
    patience: int,
    tolerance: float,
    tell: Callable[[str], None] = lambda text: None,
) -> Place:
    """A place of greatest gradient rank (``patience`` 0: the model's own parameters).

    A walk makes independent draws, then moves that never lower the rank, every second one aimed at the units that show
    too little. It ends after ``patience`` moves without a gain, at once where independent draws agree. Walks are
    repeated, since one may be caught, until the greatest rank was reached independently three times, by walks or by
    draws (four times where known symmetries leave a part of the fibre unexplained). Where they fill it no greater rank
    exists.
    """
    if patience <= 0:
        return _widened(potentials, _place(potentials, symmetries, potentials.origin, tolerance), tolerance, tell)
    ends: list[Place] = []
    reached: list[int] = []
    agreeing = 4 if len(symmetries) else 3
    for _ in range(_MOST_WALKS):
        place, ranks = _walk(potentials, symmetries, patience, tolerance, tell)
        ends.append(place)
        # the walk went on from its best draw: they are one witness
        reached += [place.rank, *sorted(ranks)[:-1]]
        agreed = len(ranks) == _INDEPENDENT and len({place.rank, *ranks}) == 1
        if agreed or place.explained or reached.count(max(reached)) >= agreeing:
            break
    return _widened(potentials, max(ends, key=lambda end: (end.rank, end.gaps[0].kept)), tolerance, tell)


def _walk(
    potentials: Potentials, symmetries: KnownSymmetries, patience: int, tolerance: float, tell: Callable[[str], None]
) -> tuple[Place, list[int]]:
    """One walk, and the ranks of its independent draws."""
    best = _place(potentials, symmetries, fresh_place(potentials), tolerance)
    ranks, since, moves = [best.rank], 0, 0
    while not best.explained and since < patience and not (len(set(ranks)) == 1 and len(ranks) == _INDEPENDENT):
        drawing = len(ranks) < _INDEPENDENT
        if drawing:
            theta = fresh_place(potentials)
        elif moves % 2:
            theta = loosened(potentials, best.theta, best.loose)
        else:
            # From a fortieth of the rows to all of them, evenly in the logarithm.
            share = float(10.0 ** -(1.6 * torch.rand((), generator=potentials.generator)))
            theta = redrawn(potentials, best.theta, share)
        place = _place(potentials, symmetries, theta, tolerance)
        since = 0 if drawing or place.rank > best.rank else since + 1
        best = place if place.rank >= best.rank else best
        if drawing:
            ranks.append(place.rank)
        else:
            moves += 1
        tell(f"point {len(ranks) + moves}: {place.rank} of {potentials.dimension} directions, best {best.rank}")
    return best, ranks


def _place(potentials: Potentials, symmetries: KnownSymmetries, theta: Tensor, tolerance: float) -> Place:
    size = potentials.dimension
    entries = max(2 * size + 64, min(6 * size + 512, 4_000_000 // size))
    rows = _evened(torch.cat(list(potentials.gradients(theta, entries))))
    rank, basis, gap = matrix_rank(rows / column_scale(rows), tolerance, "gradients")
    generators, generator_gap = known_generators(potentials, symmetries, theta, rows, tolerance)
    return Place(theta, rows, rank, generators, (gap, generator_gap), 1.0 - basis.square().sum(1))


def _evened(rows: Float64[Tensor, "rows D"]) -> Float64[Tensor, "rows D"]:
    """Rows of unit length, so that small gradients count too; below 1e-6 of the longest rounding may rule."""
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    scaled: Tensor = rows / norms.clamp_min(1e-6 * float(norms.max()) + 1e-300)
    return scaled


def _widened(potentials: Potentials, place: Place, tolerance: float, tell: Callable[[str], None]) -> Place:
    """The same θ with more inputs until two rounds find no new direction: small linear pieces are rarely met."""
    if place.explained or potentials.data is not None:
        return place
    scale = column_scale(place.rows)
    _, basis, _ = matrix_rank(place.rows / scale, tolerance)
    span = Span(basis, tolerance)
    gaps = list(place.gaps)
    entries, seen, quiet = place.rows.shape[0], place.rows.shape[0], 0
    while quiet < 2 and seen < _MOST_ENTRIES and span.rank < place.theta.numel():
        found = 0
        for rows in potentials.gradients(place.theta, entries):
            more, gap = span.absorb(_evened(rows) / scale, "more gradients")
            found += more
            gaps.append(gap)
        seen, entries = seen + entries, 2 * entries
        quiet = 0 if found else quiet + 1
        tell(f"{seen} functions: {span.rank} of {place.theta.numel()} directions")
    # A basis in place of all the rows that were seen: whoever asks for gradients here needs their span alone.
    rows = (span.basis * scale[:, None]).mT.contiguous()
    return Place(place.theta, rows, span.rank, place.generators, tuple(gaps), 1.0 - span.basis.square().sum(1))
