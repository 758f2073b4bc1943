"""The central flow of gradient descent: the average of its iterates, through and past the edge of stability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from neuralmechanics.flows.edge.complementarity import solve_complementarity, symmetric_matrix, symmetric_pairs
from neuralmechanics.flows.edge.oscillation import Oscillation
from neuralmechanics.flows.edge.unstable_space import UnstableSpace, entry_gradients, largest_curvature
from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss, Objective
from neuralmechanics.flows.equation.stop import Halt, StopReason
from neuralmechanics.flows.equation.system import System, steady
from neuralmechanics.optimizers.hyperparameters.bounds import require_nonnegative, require_positive

__all__ = ["CentralFlow", "averaged_loss", "require_covariance"]


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
        self.space = UnstableSpace(flow.threshold, flow.most_directions)
        self.largest = largest_curvature(objective)

    def at(self, x: Tensor) -> Oscillation:
        """Everything about the point x."""
        point, slope = self.objective.recorded_gradient(x, 3)
        gradient = slope.detach()
        with torch.enable_grad():
            values, vectors = self.space.find(point, slope)
            near = self.space.near(values)
            covariance, velocity = torch.zeros(len(values), len(values), dtype=torch.float64), -gradient
            if near:
                rows = entry_gradients(point, slope, vectors[:, :near])
                covariance[:near, :near] = self._covariance(rows, gradient, values[:near])
                pairs = symmetric_pairs(near)
                # ½∇⟨H, Σ⟩ = ½Σᵢⱼ Xᵢⱼ∇(uᵢᵀHuⱼ): the factor √2 of both sides counts each pair off the diagonal twice.
                velocity = velocity - (covariance[pairs[0], pairs[1]] * pairs[2]).to(rows.device) @ rows / 2
        return Oscillation(
            values=values,
            directions=vectors,
            covariance=covariance.to(vectors.device),
            curved=vectors * values.to(vectors.device),
            gradient=gradient,
            velocity=velocity,
            loss=averaged_loss(self.objective, x, values, covariance),
            centre=x,
            largest=self.largest,
            layout=self.objective.layout,
        )

    def _covariance(self, rows: Tensor, gradient: Tensor, values: Tensor) -> Tensor:
        """X of 0 ⪯ X ⊥ (2/η - Λ)/τ + d(-UᵀHU)/dt ⪰ 0."""
        room = (self.flow.threshold - values) / (self.flow.relaxation * self.flow.learning_rate)
        # -d(UᵀHU)/dt = -⟨rows, w'⟩ with w' = -g - ½Σ X·rows: a constant, and a positive semidefinite form in X.
        constant = torch.diag(room) + symmetric_matrix((rows @ gradient).cpu(), len(values))
        return require_covariance(constant, (rows @ rows.T / 2).cpu())


def averaged_loss(objective: Objective, x: Tensor, values: Tensor, covariance: Tensor) -> float:
    """L + ½⟨H, Σ⟩."""
    return objective.value(x) + 0.5 * float((covariance.diagonal() * values).sum())


def require_covariance(constant: Tensor, forms: Tensor) -> Tensor:
    """The solution of the complementarity problem; the integration ends where there is none."""
    try:
        return solve_complementarity(constant, forms)
    except ArithmeticError as error:
        raise Halt(StopReason.NOT_CONVERGED, str(error)) from None
