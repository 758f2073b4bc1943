"""Amounts that solve a linear equation: what a map that stays must be given to make a certain shift of its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import SliceTerm
from neuralmechanics.symmetry.families.actions.affine_shift import AffineShift, AffineTerm
from neuralmechanics.symmetry.families.actions.terms.slice_terms import slice_terms_from, slice_terms_to

__all__ = ["Solved", "solved_from", "solved_to"]

_EXACT = 1e-8  # of the target, beyond which the equation is not solved


@dataclass(frozen=True, eq=False)
class Solved:
    """u, the least of all with M u = F w: ``maps`` add up to M, whose inputs u are ``count``, and ``targets`` hold F.

    Nothing behind the outputs of M sees F w, which is what makes it a symmetry; M has no more outputs than inputs, and
    so at almost every point a solution. The absorber of the maps is no parameter.
    """

    maps: tuple[AffineTerm, ...]
    targets: SliceTerm
    count: int

    @cached_property
    def weights_shape(self) -> tuple[int, ...]:
        """One number a column of F."""
        return (int(self.targets.charges.max()) + 1,)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the weights that M is made of."""
        return tuple(dict.fromkeys(factor.view.parameter for term in self.maps for factor in term.factors))

    def amounts(self, params: Mapping[str, Tensor], weights: Tensor) -> Float64[Tensor, " count"]:
        """u = Mᵀ (M Mᵀ)⁻¹ F w, differentiable in the weights of M; zero where there is no solution."""
        matrix = self._matrix(params)
        target = self._target(weights.to(matrix.device))
        square = matrix.shape[0] == matrix.shape[1]
        system = matrix if square else matrix @ matrix.mT
        # Where M is zero at first, or has lost its rank, nothing moves: that is no wrong answer. It is decided beside
        # the graph, and another matrix is solved with there, so that derivatives are zeros and not nan.
        with torch.no_grad():
            tried = torch.linalg.solve_ex(system, target)[0]
            left = (system @ tried - target).abs().max()
            solved = left <= _EXACT * target.abs().max()
            one = torch.eye(len(system), dtype=system.dtype, device=system.device)
        found = torch.linalg.solve_ex(torch.where(solved, system, one), target)[0]
        return torch.where(solved, found if square else matrix.mT @ found, 0.0)

    def _matrix(self, params: Mapping[str, Tensor]) -> Float64[Tensor, "outputs count"]:
        total: Tensor | None = None
        for term in self.maps:
            first, *then = term.factors
            matrix = first.matrix(params)
            entries = torch.zeros(matrix.shape[1], self.count, dtype=torch.float64, device=matrix.device)
            places = tuple(torch.as_tensor(a, device=matrix.device) for a in (term.inputs, term.generators))
            values = torch.as_tensor(term.coefficients, dtype=torch.float64, device=matrix.device)
            matrix = matrix @ entries.index_put(places, values, accumulate=True)
            for factor in then:
                matrix = factor.matrix(params) @ matrix
            total = matrix if total is None else total + matrix
        assert total is not None
        return total

    def _target(self, weights: Tensor) -> Float64[Tensor, " outputs"]:
        """F w, each slice of the view along the outputs of M."""
        term = self.targets
        device = weights.device
        amount = weights.double()[torch.as_tensor(term.charges, device=device)]
        amount = amount * torch.as_tensor(term.coefficients, dtype=torch.float64, device=device)
        slices = torch.zeros(term.view.size, dtype=torch.float64, device=device)
        slices = slices.index_add(0, torch.as_tensor(term.slices, device=device), amount)
        return slices if term.view.kept else slices.expand(term.view.shape[0])


def solved_to(solved: Solved) -> dict[str, Any]:
    """Plain data; ``solved_from`` is its inverse."""
    (targets,) = slice_terms_to([solved.targets])
    return {"maps": AffineShift((), solved.maps).to_dict()["affine"], "targets": targets, "count": solved.count}


def solved_from(data: Mapping[str, Any]) -> Solved:
    """What was written."""
    maps = AffineShift.from_dict({"terms": [], "affine": data["maps"]}).answers
    (targets,) = slice_terms_from([data["targets"]])
    return Solved(maps, targets, data["count"])
