"""Spans that a group of relabelings leaves as they are, kept as one small span for each isotypic part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.diagnostics.counting.folding.group import RelabelingGroup
from neuralmechanics.diagnostics.counting.rank import Gap, Span, matrix_rank, span_tolerance

__all__ = ["FoldedSpan"]

# Share of a whole row below which its part is not brought to unit length.
_SHORTEST = 1e-4


@dataclass(frozen=True, eq=False)
class FoldedSpan:
    """The span S of vectors *and of all their relabelings*, S = ⊕ S_χ over the characters χ of the group.

    S_χ is spanned by the parts of the vectors alone, for the relabelings of a vector have the same part up to a factor
    χ(g): one vector stands for all of its relabelings, and |G| decompositions of D/|G| columns take the place of one
    of D columns, a |G|²-th of the work. Of two conjugate characters the first stands for both, as a real space.
    """

    group: RelabelingGroup
    parts: tuple[_Part, ...]
    gaps: tuple[Gap, ...]

    @classmethod
    def of(
        cls, group: RelabelingGroup, rows: Sequence[Float64[Tensor, "rows D"]], tolerance: float, where: str
    ) -> FoldedSpan:
        """The span of rows given in pieces, with a gap for each part.

        Whole rows have unit length first: where a part of all of them is zero, what is left of it is known as rounding.
        """
        longest = max(float(torch.linalg.vector_norm(piece, dim=1).max()) for piece in rows)
        # Over √|G| the transform is unitary, so that a part is as long as its share in the vector.
        folded = [group.parts(_evened(piece, 1e-6 * longest)) / group.order**0.5 for piece in rows]
        present = group.dimensions()
        parts, gaps = [], []
        for number, multiplicity in group.characters():
            orbits = present[number].nonzero().flatten()
            whole = _real(torch.cat([piece[:, number][:, orbits] for piece in folded]), multiplicity)
            matrix = _evened(whole, _SHORTEST)
            scale = _column_scale(matrix)
            # R has the singular values and the row space of the whole, in no more rows than there are columns.
            square = torch.linalg.qr(matrix / scale, mode="r").R
            name = f"{where}, part {number + 1} of {group.order}"
            _, basis, gap = matrix_rank(square, tolerance, name, least=1.0)
            parts.append(_Part(number, multiplicity, orbits, scale, Span(basis, span_tolerance(tolerance, [gap]))))
            gaps.append(gap)
        return cls(group, tuple(parts), tuple(gaps))

    @property
    def rank(self) -> int:
        """Dimension of the span."""
        return sum(part.span.rank for part in self.parts)

    def extend(self, vectors: Float64[Tensor, "count D"], where: str = "") -> tuple[int, Gap]:
        """Adds what of vectors of natural size 1, and of their relabelings, is outside; how much, and the worst gap."""
        folded = self.group.parts(vectors) / self.group.order**0.5
        before, gaps = self.rank, []
        for part in self.parts:
            rows = _real(folded[:, part.number][:, part.orbits], part.multiplicity) / part.scale
            _, gap = part.span.extend(rows, f"{where}, part {part.number + 1} of {self.group.order}")
            gaps.append(gap)
        return self.rank - before, min(gaps, key=lambda gap: gap.ratio)


@dataclass(frozen=True, eq=False)
class _Part:
    """One isotypic part: its character, the orbits that have a share in it, evened columns, its span."""

    number: int
    multiplicity: int
    orbits: Tensor
    scale: Tensor
    span: Span


def _real(rows: Tensor, multiplicity: int) -> Tensor:
    """Complex rows c as the real ones (Re c, Im c), (-Im c, Re c), which span twice as much; real ones as they are."""
    if multiplicity == 1:
        return rows.real
    return torch.cat([torch.cat([rows.real, rows.imag], dim=1), torch.cat([-rows.imag, rows.real], dim=1)])


def _evened(rows: Tensor, shortest: float) -> Tensor:
    """Rows of unit length; those below ``shortest``, where rounding may rule, stay shorter."""
    scaled: Tensor = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(shortest + 1e-300)
    return scaled


def _column_scale(rows: Tensor) -> Tensor:
    if 0 in rows.shape:
        return rows.new_ones(rows.shape[1])
    lengths = torch.linalg.vector_norm(rows, dim=0)
    # As `column_scale`: a column of rounding is not to be made as long as the others.
    relative: Tensor = lengths / lengths.max().clamp_min(1e-300)
    return relative.clamp_min(1e-3)
