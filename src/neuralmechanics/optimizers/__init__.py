"""What a torch optimiser does at a step: its hyperparameters and the update, parameter by parameter."""

from neuralmechanics.optimizers.hooks import innermost, nested_step, uncompiled
from neuralmechanics.optimizers.setting import Setting, follows_sgd, read_setting
from neuralmechanics.optimizers.update import Update, dense
from neuralmechanics.optimizers.watch import StepWatch

__all__ = [
    "Setting",
    "StepWatch",
    "Update",
    "dense",
    "follows_sgd",
    "innermost",
    "nested_step",
    "read_setting",
    "uncompiled",
]
