"""What a torch optimiser does at a step: its hyperparameters and the update, parameter by parameter."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuralmechanics.optimizers.behaviour import may_follow_sgd
    from neuralmechanics.optimizers.hooks import StepHooks, innermost, nested_step, uncompiled
    from neuralmechanics.optimizers.hyperparameters.config import OptimizerConfig
    from neuralmechanics.optimizers.hyperparameters.setting import Setting, follows_sgd, read_setting
    from neuralmechanics.optimizers.hyperparameters.sgd import Sgd
    from neuralmechanics.optimizers.updates.combination import Combination, Part, combined, form
    from neuralmechanics.optimizers.updates.moments import MomentSetting, first_moment, moment_setting
    from neuralmechanics.optimizers.updates.update import Update, dense
    from neuralmechanics.optimizers.watch import StepWatch

# Torch loads with the first optimiser: configurations and the command line's help do without it.
_EXPORTS = {
    "behaviour": ("may_follow_sgd",),
    "updates.combination": ("Combination", "Part", "combined", "form"),
    "hyperparameters.config": ("OptimizerConfig",),
    "hooks": ("StepHooks", "innermost", "nested_step", "uncompiled"),
    "updates.moments": ("MomentSetting", "first_moment", "moment_setting"),
    "hyperparameters.setting": ("Setting", "follows_sgd", "read_setting"),
    "hyperparameters.sgd": ("Sgd",),
    "updates.update": ("Update", "dense"),
    "watch": ("StepWatch",),
}

__all__ = [
    "Combination",
    "MomentSetting",
    "OptimizerConfig",
    "Part",
    "Setting",
    "Sgd",
    "StepHooks",
    "StepWatch",
    "Update",
    "combined",
    "dense",
    "first_moment",
    "follows_sgd",
    "form",
    "innermost",
    "may_follow_sgd",
    "moment_setting",
    "nested_step",
    "read_setting",
    "uncompiled",
]


def __getattr__(name: str) -> Any:
    for module, names in _EXPORTS.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module 'neuralmechanics.optimizers' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
