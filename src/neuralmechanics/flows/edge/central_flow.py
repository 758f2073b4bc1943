"""The central flow of gradient descent: the average of its iterates, through and past the edge of stability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.curvature.eigenpairs import largest_eigenpairs
from neuralmechanics.flows.edge.complementarity import solve_complementarity, symmetric_pairs
from neuralmechanics.flows.equation.charges import PairedCharges
from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss, Objective, derivative
from neuralmechanics.flows.equation.stop import Halt, StopReason
from neuralmechanics.flows.equation.system import System, steady
from neuralmechanics.optimizers.bounds import require_nonnegative, require_positive

__all__ = ["CentralFlow", "Oscillation"]

# Eigenvalues within this share of the threshold may reach it within a step or two.
_NEAR = 0.05
# Residual of an eigenvector, relative to the sharpness: its square enters the eigenvalue.
_RESIDUAL = 1e-4


@dataclass(frozen=True)
class Oscillation:
    """What descent does about a point of its central flow: w_t = w + δ_t with E[δδᵀ] = Σ = U X Uᵀ.

    ``values`` are the largest eigenvalues of the Hessian there, ``directions`` U their eigenvectors (columns), those
    near the threshold and the next, ``covariance`` X. ``loss`` is the average over the oscillation, L + ½⟨H, Σ⟩,
    and ``velocity`` w'.
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
        """The largest eigenvalue of the Hessian at the centre."""
        return float(self.values[0])

    @property
    def variance(self) -> float:
        """tr Σ, the mean square of the oscillation."""
        return float(self.covariance.trace())

    def spread(self, charges: PairedCharges) -> Float64[Tensor, " charges"]:
        """tr(MΣ) for each quadratic charge ⟨θ, Mθ⟩: how far the oscillation lifts its average above the centre's."""
        values, turned = torch.linalg.eigh(self.covariance)
        total = torch.zeros(len(charges.kinds), dtype=torch.float64)
        for weight, axis in zip(values.clamp(min=0).tolist(), (self.directions @ turned).T, strict=True):
            along = self.layout.unflatten(axis)
            total = total + weight * torch.where(charges.quadratic.to(torch.bool), charges.pair(along, along), 0.0)
        return total


@dataclass(frozen=True)
class CentralFlow:
    """w' = -∇[L + ½⟨H, Σ⟩], Σ held: gradient flow that is kept at sharpness 2/η by the oscillation it stands for.

    Beyond sharpness 2/η descent oscillates along the eigenvectors there, w_t = w + δ_t with E[δδᵀ] = Σ, and the third
    derivative turns that into a force against sharpness. Σ is the one that holds the eigenvalues there:
    0 ⪯ Σ ⊥ 2/η - H ⪰ 0, and those of Σ do not rise. In the span U of the eigenvectors near the threshold, X ⪰ 0
    solves 0 ⪯ X ⊥ (2/η - Λ)/τ + d(-UᵀHU)/dt ⪰ 0: an eigenvalue may rise at most as fast as its distance from the
    threshold over τ, ``relaxation`` steps, so that the bound holds also between steps of an integrator. Below the edge
    this is gradient flow.

    Time is the natural time of descent, η a step.
    Cost: for k eigenvalues near the threshold, k(k+1)/2 third derivatives and a few Hessian products each.
    Source: Cohen, Damian, Talwalkar, Kolter, Lee 2025, Understanding Optimization in Deep Learning with Central Flows.
    """

    loss: Loss
    _: KW_ONLY
    learning_rate: float
    weight_decay: float = 0.0
    relaxation: float = 1.0
    most_directions: int = 24
    label: str = "central flow"

    def __post_init__(self) -> None:
        require_positive("learning_rate", self.learning_rate)
        require_positive("relaxation", self.relaxation)
        require_nonnegative("weight_decay", self.weight_decay)

    @property
    def threshold(self) -> float:
        """2/η, the sharpness beyond which descent oscillates."""
        return 2 / self.learning_rate

    def system(self, theta0: Mapping[str, Tensor]) -> System:
        """The equation started from θ0."""
        layout = Layout.of(theta0)
        objective = Objective(self.loss, layout, self.weight_decay)
        start = objective.require(layout.flatten(theta0), 3)
        field = _Field(self, objective)
        return System(layout, start, steady(lambda x: field.at(x).velocity), self.learning_rate)

    def oscillation(self, params: Mapping[str, Tensor]) -> Oscillation:
        """Sharpness, covariance and average loss of the descent whose average is at ``params``."""
        layout = Layout.of(params)
        return _Field(self, Objective(self.loss, layout, self.weight_decay)).at(layout.flatten(params))


class _Field:
    """The field, with the eigenvectors of the last point kept as guesses for the next."""

    def __init__(self, flow: CentralFlow, objective: Objective) -> None:
        self.flow, self.objective = flow, objective
        self.guess: Tensor | None = None
        self.count = 2

    def at(self, x: Tensor) -> Oscillation:
        """Everything about the point x."""
        point, slope = self.objective.recorded_gradient(x, 3)
        with torch.enable_grad():
            values, vectors = self._eigenpairs(point, slope)
            near = int((values > (1 - _NEAR) * self.flow.threshold).sum())
            gradient = slope.detach()
            covariance = torch.zeros(len(values), len(values), dtype=torch.float64)
            velocity = -gradient
            if near:
                covariance[:near, :near], force = self._covariance(point, slope, values[:near], vectors[:, :near])
                velocity = velocity - force
        mean = self.objective.value(x) + 0.5 * float((covariance.diagonal() * values).sum())
        return Oscillation(values, vectors, covariance, gradient, velocity, mean, self.objective.layout)

    def _eigenpairs(self, point: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """The eigenpairs near the threshold and the next one, which is below."""

        def product(vector: Tensor) -> Tensor:
            return derivative(slope.dot(vector), point, graph=False)

        size, most = len(point), min(self.flow.most_directions, len(point))
        count = min(self.count, size)
        while True:
            values, vectors = largest_eigenpairs(product, size, count, start=self.guess, tolerance=_RESIDUAL)
            near = int((values > (1 - _NEAR) * self.flow.threshold).sum())
            self.guess, self.count = vectors, min(max(2, near + 1), size)
            if near < count or count == size:
                return values, vectors
            if count == most:
                raise Halt(
                    StopReason.STIFF,
                    f"{near} eigenvalues of the Hessian are at the edge of stability, above "
                    f"most_directions={self.flow.most_directions}: raise it",
                )
            count = min(2 * count, most)

    def _covariance(self, point: Tensor, slope: Tensor, values: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """X and the force ½∇⟨H, UXUᵀ⟩."""
        rows, columns, weight = symmetric_pairs(len(values))
        products = [derivative(slope.dot(u), point, graph=True) for u in vectors.T]
        # ∇(uᵢᵀHuⱼ) with the eigenvectors held: the gradients of the Hessian's entries in their span.
        gradients = torch.stack(
            [
                derivative(products[j].dot(vectors[:, i]), point, graph=False)
                for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
            ]
        )
        gradients = gradients * weight[:, None]
        rates = (gradients @ slope.detach()) / weight
        constant = torch.diag((self.flow.threshold - values) / (self.flow.relaxation * self.flow.learning_rate))
        constant[rows, columns] += rates
        constant[columns, rows] = constant[rows, columns]
        try:
            covariance = solve_complementarity(constant, gradients @ gradients.T / 2)
        except ArithmeticError as error:
            raise Halt(StopReason.NOT_CONVERGED, str(error)) from None
        return covariance, (covariance[rows, columns] * weight) @ gradients / 2
