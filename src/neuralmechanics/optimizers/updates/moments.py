"""The running mean of gradients that an optimiser keeps: the velocity of SGD, the first moment of Adam and its kin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from neuralmechanics.optimizers.hyperparameters.setting import read_setting

__all__ = ["MomentSetting", "first_moment", "moment_setting"]

_KEYS = ("momentum_buffer", "exp_avg")


@dataclass(frozen=True)
class MomentSetting:
    """β of v ← βv + …, and what decoupled decay multiplies the parameters by in a step: 1 - ηλ, 1 where coupled."""

    momentum: float
    shrink: float = 1.0


def first_moment(optimizer: Optimizer, parameter: Tensor) -> Tensor | None:
    """v of a parameter, the optimiser's own tensor; None where there is none yet."""
    state: Mapping[str, Any] = optimizer.state.get(parameter, {})
    return next((state[key] for key in _KEYS if isinstance(state.get(key), Tensor)), None)


def moment_setting(optimizer: Optimizer, group: Mapping[str, Any]) -> MomentSetting | None:
    """What a group does to the moment; None for an optimiser that keeps none.

    >>> import torch
    >>> adamw = torch.optim.AdamW([torch.zeros(1)], lr=0.1, betas=(0.8, 0.99), weight_decay=0.5)
    >>> moment_setting(adamw, adamw.param_groups[0])
    MomentSetting(momentum=0.8, shrink=0.95)
    """
    setting, betas = read_setting(optimizer, group), group.get("betas")
    momentum = group.get("momentum", betas[0] if betas else 0.0)
    if not float(momentum):
        return None
    # Coupled decay is a part of the gradient and goes into the moment; the parameters are not shrunk beside it.
    shrink = 1 - float(setting.learning_rate) * float(setting.weight_decay) if setting.decoupled else 1.0
    return MomentSetting(float(momentum), shrink)
