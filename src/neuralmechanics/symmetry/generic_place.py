"""A place in parameter space where the gradients of all functions span as much as they can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.symmetry.known_laws import KnownSymmetries, known_generators
from neuralmechanics.symmetry.potentials import Potentials
from neuralmechanics.symmetry.rank import Gap, Span, matrix_rank

__all__ = ["Place", "column_scale", "generic_place"]

# Draws made without regard to each other; if their ranks agree, the rank is taken for the generic one.
_INDEPENDENT = 4
# Functions looked at before the search for new directions at one θ is given up.
_MOST_ENTRIES = 400_000


@dataclass(frozen=True, eq=False)
class Place:
    """θ, rows that span the gradients there, their number, the rank of the known generators, and the gaps."""

    theta: Float64[Tensor, " D"]
    rows: Float64[Tensor, "rows D"]
    rank: int
    generators: int
    gaps: tuple[Gap, ...]

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
    draws: int,
    tolerance: float,
    tell: Callable[[str], None] = lambda text: None,
) -> Place:
    """The place of greatest gradient rank among ``draws`` (0: the model's own parameters).

    First come independent draws, then partial redraws of the best, which repair dead units one by one. The search stops
    where the known generators fill the fibre, or where the independent draws agree.
    """
    if draws <= 0:
        return _widened(potentials, _place(potentials, symmetries, potentials.origin, tolerance), tolerance, tell)
    best: Place | None = None
    ranks: list[int] = []
    for draw in range(draws):
        like = best.theta if best is not None and draw >= _INDEPENDENT else None
        place = _place(potentials, symmetries, potentials.generic_point(like), tolerance)
        ranks.append(place.rank)
        tell(f"point {draw + 1} of at most {draws}: {place.rank} of {potentials.dimension} directions")
        if best is None or (place.rank, place.gaps[0].kept) > (best.rank, best.gaps[0].kept):
            best = place
        if best.explained or (draw + 1 == _INDEPENDENT and len(set(ranks)) == 1):
            break
    assert best is not None
    return _widened(potentials, best, tolerance, tell)


def _place(potentials: Potentials, symmetries: KnownSymmetries, theta: Tensor, tolerance: float) -> Place:
    size = potentials.dimension
    entries = max(2 * size + 64, min(6 * size + 512, 4_000_000 // size))
    rows = torch.cat(list(potentials.gradients(theta, entries)))
    rank, _, gap = matrix_rank(rows / column_scale(rows), tolerance, "gradients")
    generators, generator_gap = known_generators(potentials, symmetries, theta, rows, tolerance)
    return Place(theta, rows, rank, generators, (gap, generator_gap))


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
            more, gap = span.absorb(rows / scale, "more gradients")
            found += more
            gaps.append(gap)
        seen, entries = seen + entries, 2 * entries
        quiet = 0 if found else quiet + 1
        tell(f"{seen} functions: {span.rank} of {place.theta.numel()} directions")
    return Place(place.theta, (span.basis * scale[:, None]).mT.contiguous(), span.rank, place.generators, tuple(gaps))
