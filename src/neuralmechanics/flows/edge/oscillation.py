"""What an optimiser does about a point of its central flow: the oscillation at the edge of stability, averaged."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.equation.charges import PairedCharges
from neuralmechanics.flows.equation.layout import Layout

__all__ = ["Oscillation"]


@dataclass(frozen=True)
class Oscillation:
    """w_t = w + δ_t with E[δδᵀ] = Σ = U X Uᵀ about a point w of the central flow.

    ``values`` are the largest eigenvalues of P⁻¹H there, P the preconditioner (1 for descent), and ``directions`` U
    their eigenvectors (columns, UᵀPU = 1): those near the threshold and the next. ``covariance`` is X. ``loss`` is
    the average over the oscillation, L + ½⟨H, Σ⟩, ``gradient`` that at w, and ``velocity`` w'.
    """

    values: Float64[Tensor, " directions"]
    directions: Float64[Tensor, "parameters directions"]
    covariance: Float64[Tensor, "directions directions"]
    gradient: Float64[Tensor, " parameters"]
    velocity: Float64[Tensor, " parameters"]
    loss: float
    layout: Layout

    @property
    def sharpness(self) -> float:
        """The largest eigenvalue of P⁻¹H at the centre."""
        return float(self.values[0])

    @property
    def variance(self) -> float:
        """tr Σ, the mean square of the oscillation."""
        return float(((self.directions @ self.covariance) * self.directions).sum())

    def spread(self, charges: PairedCharges) -> Float64[Tensor, " charges"]:
        """tr(MΣ) for each quadratic charge ⟨θ, Mθ⟩: how far the oscillation lifts its average above the centre's."""
        return self._paired(charges, self.covariance)

    def work(self, charges: PairedCharges) -> Float64[Tensor, " charges"]:
        """tr(MHΣ) for each quadratic charge: half the rate at which descent's oscillation moves the centre's charge.

        The Hessian of an invariant loss turns with the orbit, D_ξH = -(MH + HM), so the force ½∇⟨H, Σ⟩ does this work
        along the generator ξ = Mθ, whatever the third derivatives are.
        """
        weighted = self.values[:, None] * self.covariance
        return self._paired(charges, (weighted + weighted.T) / 2)

    def _paired(self, charges: PairedCharges, matrix: Tensor) -> Tensor:
        weights, turned = torch.linalg.eigh(matrix)
        total = torch.zeros(len(charges.kinds), dtype=torch.float64)
        for weight, axis in zip(weights.tolist(), (self.directions @ turned).T, strict=True):
            along = self.layout.unflatten(axis)
            total = total + weight * torch.where(charges.quadratic.to(torch.bool), charges.pair(along, along), 0.0)
        return total
