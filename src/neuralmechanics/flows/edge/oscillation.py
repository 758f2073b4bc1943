"""What an optimiser does about the centre of a flow at the edge of stability: the oscillation there, averaged."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.equation.charges import PairedCharges
from neuralmechanics.flows.equation.layout import Layout

__all__ = ["Oscillation"]

# Axes of the oscillation with a smaller share of its mean square are not worth an eigenproblem.
_NEGLIGIBLE = 1e-6


@dataclass(frozen=True)
class Oscillation:
    """w_t = w + δ_t with E[δδᵀ] = Σ = U X Uᵀ about a point w of a flow.

    ``directions`` are U (columns, UᵀPU = 1, P the preconditioner, 1 for descent), ``covariance`` is X and ``values``
    the curvatures uᵢᵀHuᵢ. In a central flow U are eigenvectors of P⁻¹H, those near the threshold and the next, and the
    values, falling, their eigenvalues; in a rod or edge flow U is the one direction of the swing. ``curved`` is HU, for
    a rod the difference of the gradients at its ends over its length. ``loss`` is the average over the oscillation,
    ``gradient`` that at w, in a rod or edge flow its average over the two ends, and ``velocity`` w'.
    """

    values: Float64[Tensor, " directions"]
    directions: Float64[Tensor, "parameters directions"]
    covariance: Float64[Tensor, "directions directions"]
    curved: Float64[Tensor, "parameters directions"]
    gradient: Float64[Tensor, " parameters"]
    velocity: Float64[Tensor, " parameters"]
    loss: float
    centre: Float64[Tensor, " parameters"]
    largest: Callable[[Tensor], float]
    layout: Layout

    @cached_property
    def sharpness(self) -> float:
        """The largest eigenvalue of P⁻¹H at the centre."""
        return self.largest(self.centre)

    @cached_property
    def sharpness_of_iterates(self) -> float:
        """The largest eigenvalue of P⁻¹H where the optimiser is, on average: E[S(w + δ)].

        This is what is measured in a training, above the centre's wherever S is convex along the oscillation. By
        cubature, right for polynomials of degree three: the mean of S(w ± √k σ_i a_i) over the k principal axes of Σ.
        """
        axes = self._axes()
        if not axes.shape[1]:
            return self.sharpness
        reach = math.sqrt(axes.shape[1]) * axes.T
        return sum(self.largest(self.centre + sign * step) for step in reach for sign in (1, -1)) / (2 * len(reach))

    @property
    def variance(self) -> float:
        """tr Σ, the mean square of the oscillation."""
        return float(((self.directions @ self.covariance) * self.directions).sum())

    def spread(self, charges: PairedCharges) -> Float64[Tensor, " charges"]:
        """tr(MΣ) for each quadratic charge ⟨θ, Mθ⟩: how far the oscillation lifts its average above the centre's."""
        return self._paired(charges, self.directions)

    def work(self, charges: PairedCharges) -> Float64[Tensor, " charges"]:
        """tr(MHΣ) for each quadratic charge: half the rate at which descent's oscillation moves the centre's charge.

        The Hessian of an invariant loss turns with the orbit, D_ξH = -(MH + HM), so the force ½∇⟨H, Σ⟩ does this work
        along the generator ξ = Mθ, whatever the third derivatives are.
        """
        return self._paired(charges, self.curved)

    def _axes(self) -> Tensor:
        """Columns σ_i a_i with Σ = Σ_i σ_i² a_i a_iᵀ, without those that are next to nothing."""
        weights, turned = torch.linalg.eigh(self.covariance)
        kept = weights > _NEGLIGIBLE * weights.clamp(min=0).sum()
        scaled: Tensor = self.directions @ (turned[:, kept] * weights[kept].sqrt())
        return scaled

    def _paired(self, charges: PairedCharges, images: Tensor) -> Tensor:
        """Σ_ij X_ij ⟨u_i, M b_j⟩ for the columns b of ``images``."""
        # On the processor, where charges are summed.
        # By the axes of X: as many pairings as there are directions, where the entries of X would take its square.
        weights, turned = torch.linalg.eigh(self.covariance.cpu())
        axes, turned_images = (self.directions.cpu() @ turned).T, (images.cpu() @ turned).T
        total = torch.zeros(len(charges.kinds), dtype=torch.float64)
        for weight, axis, image in zip(weights.tolist(), axes, turned_images, strict=True):
            paired = charges.pair(self.layout.unflatten(axis), self.layout.unflatten(image))
            total = total + weight * torch.where(charges.quadratic.to(torch.bool), paired, 0.0)
        return total
