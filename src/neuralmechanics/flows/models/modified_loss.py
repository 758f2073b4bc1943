"""The modified loss: gradient flow on a loss that learning rate and momentum have bent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss, Objective
from neuralmechanics.flows.equation.system import System, steady
from neuralmechanics.flows.models.descent import loss_correction, require_modelled, transient_shift
from neuralmechanics.functional.derivatives.higher_derivatives import record_gradient
from neuralmechanics.optimizers.hyperparameters.sgd import Sgd

__all__ = ["ModifiedLoss"]


@dataclass(frozen=True)
class ModifiedLoss:
    """(1-β)θ' = -∇L̃ with L̃ = J + c|∇J|², J = L + λ|θ|²/2 and c = h(1+β)/(4(1-β)²); η/4 without momentum.

    Global error O(h²) without momentum. With momentum it starts at θ_0, as the paper's, which costs O(h);
    ``shift_start=True`` starts where the initial layer leaves the iterates, at θ_0 + hβ/(1-β)² G_0. For Nesterov
    c = h(1-β+2β²)/(4(1-β)²). It cannot oscillate and is useless once h·curvature is not far below (1-β)²/(1+β).
    Source: Barrett and Dherin 2021 (β = 0); Kunin et al. 2021, section 5; the Nesterov constant follows from the
    same expansion of the two-step recursion.
    """

    loss: Loss
    _: KW_ONLY
    learning_rate: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    shift_start: bool = False
    label: str = "modified loss"

    def __post_init__(self) -> None:
        require_modelled(self.sgd)

    @property
    def sgd(self) -> Sgd[float]:
        """The optimiser that is modelled."""
        return Sgd(self.learning_rate, self.weight_decay, self.momentum, self.dampening, self.nesterov)

    def modified(self, params: Mapping[str, Tensor]) -> Tensor:
        """L̃(θ), a scalar that autograd can follow: itself a loss.

        >>> import torch
        >>> bent = ModifiedLoss(lambda p: 0.5 * p["x"] ** 2, learning_rate=0.4)
        >>> bent.modified({"x": torch.tensor(2.0, dtype=torch.float64)}).item()  # 2 + 0.1 · 2²
        2.4
        """
        layout = Layout.of(params)
        objective = Objective(self.loss, layout, self.weight_decay)
        with torch.enable_grad():
            joined = torch.cat([params[name].to(torch.float64).reshape(-1) for name in layout.names])
            # A graph of the caller is gone on with, so that the modified loss can be differentiated.
            vector = joined if joined.requires_grad else joined.requires_grad_(True)
            value, (slope,) = record_gradient(lambda: objective.at(vector), [vector], 2)
            bent = value + loss_correction(self.sgd) * slope.dot(slope)
        return bent if any(params[name].requires_grad for name in layout.names) else bent.detach()

    def system(self, theta0: Mapping[str, Tensor]) -> System:
        """The equation started from θ0."""
        layout = Layout.of(theta0)
        objective = Objective(self.loss, layout, self.weight_decay)
        sgd = self.sgd
        start = objective.require(layout.flatten(theta0), 2)
        if self.shift_start:
            start = start + transient_shift(sgd) * sgd.time_step * objective.gradient(start)

        def field(x: Tensor) -> Tensor:
            slope, product = objective.gradient_and_product(x, lambda g: g)
            return -(slope + 2 * loss_correction(sgd) * product) / (1 - sgd.momentum)

        return System(layout, start, steady(field), sgd.time_step)
