"""Exchanges of two vectors of which a model sees the inner product alone: more symmetries than the linear block has.

What GL(r) leaves as it is of a vector x and a covector y is a function of x·y. This form is kept by all of O(r, r):
with an antisymmetric B by x' = B y and by y' = B x, too. Together they turn x + y and x - y apart, so that under heavy
ball both keep an angular momentum, where the block's own rotations give one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralmechanics.symmetry.families.actions import Form, GramTerm, LinearBlocks

__all__ = ["Exchange", "exchanges"]


@dataclass(frozen=True, eq=False)
class Exchange:
    """x' = B y, y' = ±B x of one block: ``first`` and ``second`` hold x and y, row ``row`` of each its channels."""

    first: GramTerm
    second: GramTerm
    row: int
    other_row: int

    def units(self) -> Iterator[tuple[Form, Tensor]]:
        """B = E_ij - E_ji with either sign: antisymmetric in the parameters with the same sign, else symmetric."""
        width = self.first.slices.shape[1]
        for i in range(width):
            for j in range(i + 1, width):
                for form, sign in (("antisymmetric", 1.0), ("symmetric", -1.0)):
                    weights = torch.zeros(2, width, width, dtype=torch.float64)
                    weights[0, i, j], weights[0, j, i] = 1.0, -1.0
                    weights[1] = sign * weights[0]
                    yield form, weights  # type: ignore[misc]

    def generator(self, params: Mapping[str, Tensor], weights: Tensor | None = None) -> dict[str, Tensor]:
        """B y and ±B x in the place of x and y."""
        if weights is None:
            raise ValueError("the generator of an exchange needs its two matrices")
        out: dict[str, Tensor] = {}
        sides = ((self.first, self.row), (self.second, self.other_row))
        for (term, row), (other, other_row), matrix in zip(sides, sides[::-1], weights, strict=True):
            read = other.channels(params[other.view.parameter])[other.slices[other_row]]
            rows = torch.zeros_like(term.channels(params[term.view.parameter]))
            rows[term.slices[row]] = matrix @ read
            step = term.restore(rows, params[term.view.parameter])
            name = term.view.parameter
            out[name] = out[name] + step if name in out else step
        return out


def exchanges(symmetries: Sequence[object]) -> list[Exchange]:
    """One for each linear block of a single vector and a single covector."""
    out = []
    for family in symmetries:
        action = getattr(family, "action", None)
        if not isinstance(action, LinearBlocks):
            continue
        for block in range(action.blocks):
            places = [(t, k) for t in action.terms for k in (t.blocks == block).nonzero()[0].tolist()]
            signs = sorted(int(term.signs[k]) for term, k in places)
            single = all(torch.Size(t.view.shape).numel() == t.view.size for t, _ in places)
            if signs == [-1, 1] and single:
                (first, row), (second, other_row) = places
                out.append(Exchange(first, second, row, other_row))
    return out
