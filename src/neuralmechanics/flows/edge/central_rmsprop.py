"""The central flow of RMSprop: averages of its iterates and of its squared gradients, past the edge of stability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from neuralmechanics.flows.edge.central_flow import averaged_loss, require_covariance
from neuralmechanics.flows.edge.complementarity import symmetric_matrix, symmetric_pairs
from neuralmechanics.flows.edge.oscillation import Oscillation
from neuralmechanics.flows.edge.unstable_space import UnstableSpace, entry_gradients, largest_curvature
from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss, Objective
from neuralmechanics.flows.equation.system import System, steady
from neuralmechanics.optimizers.hyperparameters.bounds import require_positive, require_rmsprop

__all__ = ["CentralRMSpropFlow"]

# Preconditioned steps of size η g/(√ν + eps) are unstable beyond this eigenvalue of P⁻¹H.
_THRESHOLD = 2.0


@dataclass(frozen=True)
class CentralRMSpropFlow:
    """w' = -(∇L + ½∇⟨H, Σ⟩)/(√ν + eps),  ην' = (1-α)/α (∇L² + diag(HΣH) - ν): RMSprop on average.

    The preconditioner P = (√ν + eps)/η is part of the state. Where an eigenvalue of P⁻¹H reaches 2, RMSprop oscillates
    along its eigenvector, and that both lowers the curvature, as for descent, and raises ν, for the gradients of the
    oscillation count in it: HΣ = 2PΣ. Σ = UXUᵀ, UᵀPU = 1, is the covariance that holds the eigenvalues:
    0 ⪯ X ⊥ (2 - Λ)/τ + Uᵀ(2P - H)'U ⪰ 0.

    ``smoothing`` is torch's alpha. ``squares`` is ν at the start, such as an optimiser's ``square_avg``; without it ν
    starts where it would rest, at the square of the gradient. Time is η a step, as for ``RMSpropFlow``.
    Source: Cohen, Damian, Talwalkar, Kolter, Lee 2025, Understanding Optimization in Deep Learning with Central Flows.
    """

    loss: Loss
    _: KW_ONLY
    learning_rate: float
    smoothing: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    squares: Mapping[str, Tensor] | None = None
    relaxation: float = 1.0
    most_directions: int = 24
    label: str = "central flow of RMSprop"

    def __post_init__(self) -> None:
        require_rmsprop(self.learning_rate, self.smoothing, self.eps, self.weight_decay)
        require_positive("relaxation", self.relaxation)

    def system(self, theta0: Mapping[str, Tensor]) -> System:
        """The equation of (θ, ν) started from θ0."""
        layout = Layout.of(theta0)
        objective = Objective(self.loss, layout, self.weight_decay)
        start = objective.require(layout.flatten(theta0), 3)
        squares = objective.gradient(start).square() if self.squares is None else layout.flatten(self.squares)
        field = _Field(self, objective)
        state = torch.cat([start, squares])
        return System(layout, state, steady(lambda x: field.at(x)[1]), self.learning_rate, beside=("squares",))

    def oscillation(self, params: Mapping[str, Tensor], squares: Mapping[str, Tensor]) -> Oscillation:
        """Preconditioned sharpness, covariance and average loss at a point and its averages of squares."""
        layout = Layout.of(params)
        field = _Field(self, Objective(self.loss, layout, self.weight_decay))
        return field.at(torch.cat([layout.flatten(params), layout.flatten(squares)]))[0]


class _Field:
    """The field, with the eigenvectors of the last point kept as guesses for the next."""

    def __init__(self, flow: CentralRMSpropFlow, objective: Objective) -> None:
        self.flow, self.objective = flow, objective
        self.space = UnstableSpace(_THRESHOLD, flow.most_directions)

    def at(self, state: Tensor) -> tuple[Oscillation, Tensor]:
        """Everything about the point of a state (θ, ν), and the velocity of both."""
        x, squares = torch.split(state, self.objective.layout.size)
        # A trial step of an integrator may go below zero, where the root would be nan.
        squares = squares.clamp(min=torch.finfo(squares.dtype).tiny)
        divisor = squares.sqrt() + self.flow.eps
        point, slope = self.objective.recorded_gradient(x, 3)
        gradient = slope.detach()
        growth = (1 - self.flow.smoothing) / (self.flow.smoothing * self.flow.learning_rate)
        velocity, change = -gradient / divisor, growth * (gradient.square() - squares)
        root = (self.flow.learning_rate / divisor).sqrt()
        with torch.enable_grad():
            values, vectors = self.space.find(point, slope, root)
            near = self.space.near(values)
            covariance = torch.zeros(len(values), len(values), dtype=torch.float64)
            if near:
                rows = entry_gradients(point, slope, vectors[:, :near])
                products = _products(vectors[:, :near])
                # diag(HΣH) = 4 diag(PΣP), a row for each entry of X.
                lifted = growth * 4 * (divisor / self.flow.learning_rate).square() * products
                # A change of ν moves 2P = 2(√ν + eps)/η by so much of it.
                lever = 1 / (squares.sqrt() * self.flow.learning_rate)
                rates = products @ (lever * change) - rows @ velocity
                forms = (products * lever) @ lifted.T + (rows / divisor) @ rows.T / 2
                room = (_THRESHOLD - values[:near]) / (self.flow.relaxation * self.flow.learning_rate)
                constant = torch.diag(room) + symmetric_matrix(rates.cpu(), near)
                covariance[:near, :near] = require_covariance(constant, (forms + forms.T).cpu() / 2)
                pairs = symmetric_pairs(near)
                entries = (covariance[pairs[0], pairs[1]] * pairs[2]).to(rows.device)
                velocity = velocity - (entries @ rows) / (2 * divisor)
                change = change + entries @ lifted
        about = Oscillation(
            values=values,
            directions=vectors,
            covariance=covariance.to(vectors.device),
            curved=vectors * values.to(vectors.device) / root.square()[:, None],
            gradient=gradient,
            velocity=velocity,
            loss=averaged_loss(self.objective, x, values, covariance),
            centre=x,
            largest=largest_curvature(self.objective, root),
            layout=self.objective.layout,
        )
        return about, torch.cat([velocity, change])


def _products(vectors: Tensor) -> Tensor:
    """uᵢuⱼ elementwise, a row for each pair i ≤ j, times √2 off the diagonal."""
    rows, columns, weight = symmetric_pairs(vectors.shape[1])
    return (vectors[:, rows] * vectors[:, columns] * weight.to(vectors.device)).T
