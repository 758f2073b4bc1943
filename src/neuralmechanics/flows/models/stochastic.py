"""The stochastic differential equation of SGD: drift of the mean loss, noise with the minibatch covariance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Objective, derivative
from neuralmechanics.optimizers.hyperparameters.bounds import require_nonnegative, require_positive, require_whole

__all__ = ["Losses", "Noise", "StochasticFlow"]

Losses = Callable[[dict[str, Tensor]], Tensor]


@dataclass(frozen=True)
class StochasticFlow:
    """dθ = -∇J dt + √η Σ^{1/2} dW, Σ = Σ_i (g_i-ḡ)(g_i-ḡ)ᵀ/(nB) over the n losses of ``losses(params)``.

    Each loss is an example's with ``batch_size`` B, or, for losses that need a batch such as those with batch
    norm, a sampled minibatch's with B = 1. Σ is never formed: its rank is at most n - 1 and Σ^{1/2}ξ is one
    backward pass. ``modified`` adds η|∇J|²/4 to J: then SGD is matched to weak order 2, else 1.
    ``replacement=False`` scales Σ by (n-B)/(n-1). Source: Li, Tai, E 2017; Kunin et al. 2021, section 5.
    """

    losses: Losses
    _: KW_ONLY
    learning_rate: float
    batch_size: int = 1
    weight_decay: float = 0.0
    modified: bool = False
    replacement: bool = True
    label: str = "stochastic gradient flow"

    def __post_init__(self) -> None:
        require_positive("learning_rate", self.learning_rate)
        require_nonnegative("weight_decay", self.weight_decay)
        require_whole("batch_size", self.batch_size, 1)

    def loss(self, params: dict[str, Tensor]) -> Tensor:
        """The mean loss."""
        return self.losses(params).mean()

    def noise(self, params: Mapping[str, Tensor]) -> Noise:
        """Drift and noise as functions of flat vectors laid out as ``params``."""
        layout = Layout.of(params)
        values = self.losses(layout.unflatten(layout.flatten(params).requires_grad_(True))).detach()
        if values.ndim != 1 or values.numel() < 2:
            raise ValueError(
                f"losses(params) has shape {tuple(values.shape)}, expected one loss an example or minibatch, 2 or more"
            )
        n = values.numel()
        if not self.replacement and self.batch_size > n:
            raise ValueError(f"batch_size is {self.batch_size} of {n} examples without replacement")
        Objective(self.loss, layout, self.weight_decay).require(layout.flatten(params), 2 if self.modified else 1)
        share = 1.0 if self.replacement else (n - self.batch_size) / (n - 1)
        return Noise(self, layout, n, math.sqrt(self.learning_rate * share / (n * self.batch_size)))


@dataclass(frozen=True)
class Noise:
    """Drift a(x) and the columns b_j(x) = √(η/(nB)) (g_j - ḡ), only ever used in sums Σ_j w_j b_j."""

    flow: StochasticFlow
    layout: Layout
    samples: int
    scale: float

    def drift(self, x: Float64[Tensor, " parameters"]) -> Float64[Tensor, " parameters"]:
        """-∇J, or -∇(J + η|∇J|²/4)."""
        objective = Objective(self.flow.loss, self.layout, self.flow.weight_decay)
        if not self.flow.modified:
            return -objective.gradient(x)
        slope, product = objective.gradient_and_product(x, lambda g: g)
        return -slope - self.flow.learning_rate / 2 * product

    def along(
        self, x: Float64[Tensor, " parameters"], weights: Float64[Tensor, " samples"]
    ) -> Float64[Tensor, " parameters"]:
        """Σ_j w_j b_j(x): the gradient of one weighted sum of losses."""
        # Σ w_j (g_j - ḡ) = Σ (w_j - w̄) g_j: one backward pass of a weighted sum of losses.
        centred = (weights - weights.mean()) * self.scale
        with torch.enable_grad():
            point = x.detach().requires_grad_(True)
            total = self.flow.losses(self.layout.unflatten(point)).to(torch.float64).dot(centred)
            return derivative(total, point, graph=False)
