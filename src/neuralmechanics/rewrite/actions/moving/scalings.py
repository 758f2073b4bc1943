"""Everything that factors may do to a model, one number a channel: rescalings, and the diagonals of linear blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.rewrite.actions.looking.subject import Subject
from neuralmechanics.rewrite.actions.moving.diagonals import kept_place, multiplied, origin_of
from neuralmechanics.rewrite.plan import Change
from neuralmechanics.slices import SliceTerm
from neuralmechanics.symmetry import Family
from neuralmechanics.symmetry.families.actions import AffineDiagonal, ComplexPairs, Diagonal, GramTerm, LinearBlocks

__all__ = ["Scaling", "scalings_of"]


@dataclass(frozen=True, eq=False)
class Scaling:
    """Positive factors, one a channel, and for each tensor which of its slices they multiply, to which power."""

    family: Family
    count: int
    terms: tuple[SliceTerm, ...]
    origins: tuple[float, ...]

    def changes(self, factors: Float64[Tensor, " count"], subject: Subject) -> list[Change]:
        """Each tensor's slices times the products of the factors' powers."""
        out: list[Change] = []
        for term, origin in zip(self.terms, self.origins, strict=True):
            change = multiplied(term, factors, subject.shape(term.view.parameter), origin)
            assert change is not None  # see ``scalings_of``
            out.append(change)
        return out


def scalings_of(subject: Subject) -> Iterator[Scaling]:
    """The scalings of every exact family with factors of both directions."""
    for family in subject.symmetries:
        if family.broken_by or family.kind not in ("rescale", "linear"):
            continue
        action = family.action
        terms: tuple[SliceTerm, ...] = ()
        count = 0
        if isinstance(action, (Diagonal, AffineDiagonal)):
            terms, count = action.terms, action.charges
        elif isinstance(action, LinearBlocks):
            terms, count = tuple(_diagonal(t, action.width) for t in action.terms), action.blocks * action.width
        elif isinstance(action, ComplexPairs):
            terms, count = tuple(_diagonal(t, 1) for t in action.terms), action.blocks
        if not terms:
            continue
        found = [origin_of(action, t.view.parameter) if isinstance(action, AffineDiagonal) else 0.0 for t in terms]
        origins = tuple(origin for origin in found if origin is not None)
        fits = all(kept_place(t.view, subject.shape(t.view.parameter)) is not None for t in terms)
        if fits and len(origins) == len(terms) and all(_own(t) for t in terms):
            yield Scaling(family, count, terms, origins)


def _diagonal(term: GramTerm, width: int) -> SliceTerm:
    """The diagonal matrices of linear blocks, or the real factors (``width`` 1) of complex pairs."""
    inside = np.arange(term.slices.shape[1]) if width > 1 else np.zeros(term.slices.shape[1], dtype=np.int64)
    charges = term.blocks[:, None] * width + inside
    powers = np.broadcast_to(term.signs[:, None], charges.shape)
    return SliceTerm(term.view, charges.reshape(-1), term.slices.reshape(-1), powers.reshape(-1).astype(float))


def _own(term: SliceTerm) -> bool:
    """Whether the term's slices are those of a parameter in one piece."""
    return math.prod(term.view.shape) > 0
