"""The slope of the loss along the orbits of a family, without any gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from neuralmechanics.functional.pure_loss import Objective
    from neuralmechanics.symmetry.families.family import Family

__all__ = ["slope"]


def slope(objective: Objective, family: Family, params: Mapping[str, Tensor], weights: Tensor, time: float) -> float:
    """dL/dt along the orbit, from four values of the loss, to fourth order in ``time``.

    It knows no gradient: where it differs from ⟨g, ξ⟩, the backward pass is not the derivative of the forward pass.
    """
    near, far = (
        objective.value(family.flow(params, weights, k * time))
        - objective.value(family.flow(params, weights, -k * time))
        for k in (1, 2)
    )
    return (8 * near - far) / (12 * time)
