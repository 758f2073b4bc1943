"""Ways along the orbits of a family: random one-parameter subgroups, finite steps on them, the loss's slope there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neuralmechanics.symmetry.families.actions.rotation import Turn

if TYPE_CHECKING:
    from neuralmechanics.functional.pure_loss import Objective
    from neuralmechanics.symmetry.families.family import Family

__all__ = ["draw_weights", "finite_amount", "move", "slope"]


def draw_weights(family: Family, generator: torch.Generator) -> Tensor:
    """Random weights over all generators at once: one pass tests the whole family, whatever its size.

    Halves and ones of either sign, exact in every precision; normal matrices of unit size for linear blocks, and for
    rotations.
    """
    if isinstance(family.gauge, Turn):
        noise = torch.randn(family.gauge.size, generator=generator, dtype=torch.float64)
        angles: Tensor = noise / family.gauge.width**0.5
        return angles
    if family.grams:
        noise = torch.randn(family.generator_shape, generator=generator, dtype=torch.float64)
        scaled: Tensor = noise / family.width**0.5
        return scaled
    choice = torch.randint(4, (family.size,), generator=generator)
    return torch.tensor([-1.0, -0.5, 0.5, 1.0], dtype=torch.float64)[choice]


def finite_amount(family: Family, params: Mapping[str, Tensor]) -> float:
    """A group parameter that is large on the scale of the parameters: a factor 2, or a shift of their own size."""
    if family.grams or isinstance(family.gauge, Turn):
        return 0.5
    if family.kind not in ("translation", "affine"):
        return float(torch.log(torch.tensor(2.0, dtype=torch.float64)))
    squares = torch.cat([params[name].detach().double().square().reshape(-1) for name in family.parameters])
    return max(float(squares.mean().sqrt()), 0.05)


def move(family: Family, params: Mapping[str, Tensor], weights: Tensor, time: float) -> dict[str, Tensor]:
    """exp(t Σ w_c M_c) θ, with ∂/∂t = ξ at t = 0."""
    if family.complex:
        return family.transform(params, torch.view_as_real(torch.view_as_complex(time * weights).exp()))
    if family.grams:
        return family.transform(params, torch.linalg.matrix_exp(time * weights))
    if family.kind in ("translation", "affine") or family.gauge is not None:
        return family.transform(params, time * weights)
    return family.transform(params, (time * weights).exp())


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
