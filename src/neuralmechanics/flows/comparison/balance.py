"""What noise does to charges: nothing along generators, and yet it balances the layers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.equation.charges import PairedCharges
from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Objective, derivative
from neuralmechanics.flows.models.stochastic import Losses

__all__ = ["balance_rate", "noise_along_generators"]


def noise_along_generators(
    losses: Losses, params: Mapping[str, Tensor], symmetries: PairedCharges
) -> Float64[Tensor, " charges"]:
    """max_i |⟨g_i - ḡ, ξ⟩| / (|g_i - ḡ| |θ|): the noise's component along each generator, relative; 0 if exact.

    Every batch obeys the gradient constraint of an exact symmetry, so Σξ = 0. Cost: one gradient a sample.
    """
    layout = Layout.of(params)
    point = layout.flatten(params)
    deviations = _deviations(losses, layout, point)
    named = layout.unflatten(point)
    # Relative to |δg||θ|, so that a large network and a small one are judged alike.
    size = torch.linalg.vector_norm(point)
    components = [
        symmetries.residual(layout.unflatten(one), named).abs()
        / (torch.linalg.vector_norm(one) * size).clamp(min=1e-300)
        for one in deviations
    ]
    return torch.stack(components).amax(0)


def balance_rate(
    losses: Losses,
    params: Mapping[str, Tensor],
    symmetries: PairedCharges,
    *,
    learning_rate: float,
    batch_size: int = 1,
    weight_decay: float = 0.0,
    modified: bool = False,
) -> Float64[Tensor, " charges"]:
    """Q' = -2λQ + η tr(MΣ): the law of balance, deterministic although θ is not.

    The noise has no component along ξ = Mθ, so Ito's formula leaves only its second-order term,
    η Σ_i ⟨δg_i, Mδg_i⟩/(nB), with signs: the layer with the noisier gradients grows. For a pair of layers
    that share a rescale symmetry, δg_A1 is proportional to θ_A2 and the term pulls Q to 0. ``modified`` adds the mean
    gradient's own η⟨ḡ, Mḡ⟩, what steps of finite length do. Translations keep Q' = -λQ.
    Source: Ziyin et al. 2023, Law of balance and stationary distribution of SGD.
    """
    layout = Layout.of(params)
    point = layout.flatten(params)
    deviations = [layout.unflatten(one) for one in _deviations(losses, layout, point)]
    # The mean of ⟨δg, Mδg⟩ over examples is tr(MΣ) for a batch of one; Σ itself is never formed.
    spread = torch.stack([symmetries.pair(one, one) for one in deviations]).mean(0) / batch_size
    if modified:
        mean = layout.unflatten(Objective(lambda p: losses(p).mean(), layout, weight_decay).gradient(point))
        # Steps of finite length move the charge by η²⟨g, Mg⟩ each, mean gradient included.
        spread = spread + symmetries.pair(mean, mean)
    quadratic = symmetries.quadratic.to(torch.bool)
    here = layout.unflatten(point)
    pull = symmetries.residual(here, here).to(torch.float64)  # the charge, where it is one about zero
    factor = torch.where(quadratic, 2.0, 1.0).to(torch.float64)
    # A translation has no second derivative: the second-order term is absent.
    return torch.where(quadratic, learning_rate * spread, 0.0) - factor * weight_decay * pull


def _deviations(losses: Losses, layout: Layout, point: Tensor) -> Tensor:
    with torch.enable_grad():
        variable = point.detach().requires_grad_(True)
        values = losses(layout.unflatten(variable))
        gradients = torch.stack([derivative(value, variable, graph=False) for value in values])
    return gradients - gradients.mean(0)
