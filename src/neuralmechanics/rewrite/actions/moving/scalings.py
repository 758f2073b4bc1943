"""Everything that factors may do to a model, one number a channel: rescalings, and the diagonals of linear blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.rewrite.actions.looking.subject import Subject
from neuralmechanics.rewrite.actions.moving.diagonals import kept_place, multiplied, origin_of
from neuralmechanics.rewrite.plan import Change
from neuralmechanics.slices import SliceTerm
from neuralmechanics.symmetry import Family
from neuralmechanics.symmetry.families.actions.terms.slice_terms import rows

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
        terms = action.channel_factors
        if not terms:
            continue
        found = [origin_of(action, t.view.parameter) for t in terms]
        origins = tuple(origin for origin in found if origin is not None)
        fits = all(kept_place(t.view, subject.shape(t.view.parameter)) is not None for t in terms)
        if fits and len(origins) == len(terms) and all(_own(t) for t in terms):
            yield Scaling(family, rows(terms), terms, origins)


def _own(term: SliceTerm) -> bool:
    """Whether the term's slices are those of a parameter in one piece."""
    return math.prod(term.view.shape) > 0
