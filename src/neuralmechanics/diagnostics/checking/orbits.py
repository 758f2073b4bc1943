"""Ways along the orbits of several families, one after the other, and the loss's slope there, without any gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from neuralmechanics.functional.pure_loss import Objective
    from neuralmechanics.symmetry.families.family import Family

__all__ = ["Drawn", "Path", "along", "slope", "transformed"]

Drawn = Sequence[tuple["Family", Tensor]]  # families, each with a random weighting of its generators
Path = Callable[[float], Mapping[str, Tensor]]


def along(drawn: Drawn, params: Mapping[str, Tensor]) -> Path:
    """t ↦ exp(t M_n) … exp(t M_1) θ: the families' orbits one after the other, so that dθ/dt = Σ ξ at t = 0."""

    def moved(time: float) -> Mapping[str, Tensor]:
        here = params
        for family, weights in drawn:
            here = family.flow(here, weights, time)
        return here

    return moved


def transformed(drawn: Drawn, params: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """θ after a finite step along the orbit of each family, one after the other.

    Where all of them are symmetries so is this, whether or not they commute.
    """
    for family, weights in drawn:
        params = family.flow(params, weights, family.action.reach(params))
    return params


def slope(objective: Objective, path: Path, time: float) -> float:
    """dL/dt along a path through θ at t = 0, from four values of the loss, to fourth order in ``time``.

    It knows no gradient: where it differs from ⟨g, ξ⟩, the backward pass is not the derivative of the forward pass.
    """
    near, far = (objective.value(path(k * time)) - objective.value(path(-k * time)) for k in (1, 2))
    return (8 * near - far) / (12 * time)
