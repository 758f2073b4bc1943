"""The update that Adam and its kin made to one parameter, told from their state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from neuralmechanics.optimizers.adaptive import AdaptiveFormula
from neuralmechanics.optimizers.setting import Setting
from neuralmechanics.optimizers.update import Update, dense, held

__all__ = ["adaptive_update"]


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
        return Update(after, setting, left, here["momentum_buffer"])
    if formula.slope and left is None:
        raise RuntimeError(
            f"the gradient of a parameter of shape {list(parameter.shape)} was gone when the step ended, so its update "
            "is unknown; set gradients to None after optimizer.step() has returned, or use exact_update=True"
        )
    terms = formula.terms(group, here, after if left is None else left)
    return Update(after, setting, left, terms=tuple(terms))


def _shaped(value: object, parameter: Tensor) -> bool:
    """Whether an entry of a state has one number for each of the parameter's."""
    return isinstance(value, Tensor) and value.shape == parameter.shape
