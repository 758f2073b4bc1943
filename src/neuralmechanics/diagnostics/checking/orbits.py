"""Ways along the orbits of a family: random one-parameter subgroups, finite steps on them, the loss's slope there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from neuralmechanics.functional.pure_loss import Objective
    from neuralmechanics.symmetry.families.family import Family

__all__ = ["draw_weights", "finite_amount", "move", "slope"]


def draw_weights(family: Family, generator: torch.Generator) -> Tensor:
    """Random weights over all generators at once: one pass tests the whole family, whatever its size."""
    return family.action.random_weights(generator)


def finite_amount(family: Family, params: Mapping[str, Tensor]) -> float:
    """A group parameter that is large on the scale of the parameters: a factor 2, or a shift of their own size."""
    return family.action.reach(params)


def move(family: Family, params: Mapping[str, Tensor], weights: Tensor, time: float) -> dict[str, Tensor]:
    """exp(t Σ w_c M_c) θ, with ∂/∂t = ξ at t = 0."""
    return family.flow(params, weights, time)


def slope(objective: Objective, family: Family, params: Mapping[str, Tensor], weights: Tensor, time: float) -> float:
    """dL/dt along the orbit, from four values of the loss, to fourth order in ``time``.

    It knows no gradient: where it differs from ⟨g, ξ⟩, the backward pass is not the derivative of the forward pass.
    """
    near, far = (
        objective.value(move(family, params, weights, k * time))
        - objective.value(move(family, params, weights, -k * time))
        for k in (1, 2)
    )
    return (8 * near - far) / (12 * time)
