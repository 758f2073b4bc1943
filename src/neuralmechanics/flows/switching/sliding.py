"""Weights of units on their kinks: those that hold all of them there, and those with which some leave."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

__all__ = ["holding_weights", "settled_weights"]

Weights = Float64[Tensor, " units"]
Rates = Callable[[Tensor], Tensor]

_ITERATIONS = 16
# Weights are found to this accuracy; an error in them moves the state along the kink and no charge at all.
_SOLVED = 1e-11
_SETTLING, _SETTLED = 100, 1e-9
# Steps along the motion across the kinks, where Newton's method does not help.
_RELAXED, _RELAXATION = 6, 0.3


def holding_weights(rates: Rates, start: Weights, jacobian: Tensor | None) -> tuple[Weights, Tensor] | None:
    """α with rates(α) = 0, by Newton, then by Broyden's updates of that Jacobian, which is returned; None without."""
    alphas, base = start, rates(start)
    if jacobian is not None and len(jacobian) != len(start):
        jacobian = None
    for iteration in range(_ITERATIONS):
        # Halfway without success the updates may have gone astray, and the Jacobian is taken anew.
        if jacobian is None or iteration == _ITERATIONS // 2:
            jacobian = _differences(rates, alphas, base)
        if float(base.abs().max()) <= _SOLVED * float(jacobian.abs().max()):
            return alphas, jacobian
        change = torch.linalg.lstsq(jacobian, -base[:, None]).solution[:, 0]
        if not bool(torch.isfinite(change).all()):
            return None
        alphas = alphas + change
        base = rates(alphas)
        # Broyden: the smallest change that explains what the last step did.
        jacobian = jacobian + torch.outer(base, change) / change.dot(change).clamp(min=1e-300)
    return None


def settled_weights(rates: Rates, start: Weights) -> Weights | None:
    """α in [0, 1]ⁿ where each unit stays (rate 0), leaves above (α = 1, rate ≥ 0) or below (α = 0, rate ≤ 0).

    ``rates`` are the speeds of the scores with the weights given. Such α exist for continuous rates (Hartman &
    Stampacchia 1966); found is the one that the motion across a rounded kink, α' = rate, leads to from ``start``, by
    semismooth Newton steps where they shorten the way and steps of that motion where they do not. None where it leads
    round and round.
    """
    alphas = start.clamp(0, 1)
    base = rates(alphas)
    for _ in range(_SETTLING):
        jacobian = _differences(rates, alphas, base)
        unit = jacobian.diagonal().abs()
        unit = 1 / torch.where(unit > 1e-12 * jacobian.abs().max(), unit, jacobian.abs().max().clamp(min=1e-300))
        miss = _miss(alphas, base, unit)
        if float(miss.abs().max()) <= _SETTLED:
            # To 0 and 1 themselves: whoever reads these tells by them which units leave.
            return alphas.where(alphas > _SETTLED, 0.0).where(alphas < 1 - _SETTLED, 1.0)
        change = _newton(alphas, base, unit, jacobian)
        for length in (1.0, 0.5, 0.2):
            trial = (alphas + length * change).clamp(0, 1)
            there = rates(trial)
            if float(_miss(trial, there, unit).norm()) <= (1 - length / 10) * float(miss.norm()):
                alphas, base = trial, there
                break
        else:
            for _ in range(_RELAXED):
                alphas = (alphas + _RELAXATION * unit * base).clamp(0, 1)
                base = rates(alphas)
    return None


def _miss(alphas: Tensor, base: Tensor, unit: Tensor) -> Tensor:
    """How far the motion would carry each weight within its bounds: zero where it is settled."""
    return alphas - (alphas + unit * base).clamp(0, 1)


def _newton(alphas: Tensor, base: Tensor, unit: Tensor, jacobian: Tensor) -> Tensor:
    """The change that sets to a bound what the motion drives out, and the rates of all others to zero."""
    aim = alphas + unit * base
    change = torch.where(aim <= 0, -alphas, torch.where(aim >= 1, 1 - alphas, 0.0))
    free = (aim > 0) & (aim < 1)
    if bool(free.any()):
        rest = -base[free] - jacobian[free][:, ~free] @ change[~free]
        change[free] = torch.linalg.lstsq(jacobian[free][:, free], rest[:, None], driver="gelsd").solution[:, 0]
    return change


def _differences(rates: Rates, alphas: Tensor, base: Tensor) -> Tensor:
    # The field is linear in each single weight, so these differences are derivatives; inwards, to stay on the branch.
    steps = torch.where(alphas < 0.5, 0.5, -0.5)
    moved = alphas + torch.diag(steps)
    return torch.stack([(rates(one) - base) / step for one, step in zip(moved, steps, strict=True)], 1)
