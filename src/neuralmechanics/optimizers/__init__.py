"""What a torch optimiser does at a step: its hyperparameters and the update, parameter by parameter."""

from neuralmechanics.optimizers.setting import Setting, follows_sgd, read_setting
from neuralmechanics.optimizers.update import Update
from neuralmechanics.optimizers.watch import StepWatch

__all__ = ["Setting", "StepWatch", "Update", "follows_sgd", "read_setting"]
