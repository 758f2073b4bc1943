"""The update that Adam and its kin made to one parameter, told from their state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from neuralmechanics.optimizers.hyperparameters.setting import Setting
from neuralmechanics.optimizers.updates.adaptive import AdaptiveFormula, steps_made
from neuralmechanics.optimizers.updates.update import Update, dense, held, is_addend

__all__ = ["adaptive_update", "can_be_told", "intended_update"]


def can_be_told(formula: AdaptiveFormula, group: Mapping[str, Any], setting: Setting, parameter: Tensor) -> bool:
    """Whether the formula tells the step that comes: its gradient lies here as a whole, and the settings are plain."""
    slope = parameter.grad
    whole = slope is None or (slope.layout == torch.strided and not is_addend(slope))
    return whole and formula.applies(group, setting, parameter)


def adaptive_update(
    formula: AdaptiveFormula,
    group: Mapping[str, Any],
    state: Mapping[str, Any],
    setting: Setting,
    parameter: Tensor,
    left: Tensor | None,
) -> Update:
    """d after a step that `formula` applies to. `left`: the gradient as torch left it, what this process holds of it.

    Raises RuntimeError where the formula needs a gradient that is gone.
    """
    after = dense(parameter.detach())
    here = {key: held(value, parameter) if _shaped(value, parameter) else value for key, value in state.items()}
    if formula.moves_by_buffer(group):
        return Update(after, setting, left, here["momentum_buffer"], lost=left is None)
    if formula.slope and left is None:
        raise RuntimeError(
            f"the gradient of a parameter of shape {list(parameter.shape)} was gone when the step ended, so its update "
            "is unknown; set gradients to None after optimizer.step() has returned, or use exact_update=True"
        )
    # A formula that does not read the gradient ignores what stands in its place.
    terms = formula.terms(group, here, after if left is None else left)
    return Update(after, setting, left, terms=tuple(terms), lost=left is None)


def intended_update(
    formula: AdaptiveFormula,
    group: Mapping[str, Any],
    state: Mapping[str, Any],
    setting: Setting,
    parameter: Tensor,
    copied: Tensor,
    made: float | None,
) -> Update | None:
    """The stored d beside what Adam and its kin would have moved a parameter below float32 by, were it not rounded.

    `made` counts the optimiser's steps before this one. None where the formula does not apply, or nothing was done.
    """
    gradient = parameter.grad
    if gradient is None or is_addend(gradient) or gradient.layout != torch.strided or made == steps_made(state):
        return None
    if not formula.applies(group, setting, parameter) or formula.moves_by_buffer(group):
        return None
    left = held(gradient.detach(), parameter)
    intended = adaptive_update(formula, group, state, setting, parameter, left)
    # The stored difference is the update; what was intended stands beside it, and the rest is rounding.
    return replace(intended, copied=copied, claims=True)


def _shaped(value: object, parameter: Tensor) -> bool:
    """Whether an entry of a state has one number for each of the parameter's."""
    return isinstance(value, Tensor) and value.shape == parameter.shape
