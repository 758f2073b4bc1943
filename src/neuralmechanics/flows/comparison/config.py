"""A comparison of flows as a TOML file: one's own model, its optimiser, and what to measure."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path as FilePath
from typing import Literal, get_args

from neuralmechanics.configuration.build import load_config
from neuralmechanics.configuration.former_names import todays_word
from neuralmechanics.flows.integration.integrate import METHODS
from neuralmechanics.optimizers.hyperparameters.config import OptimizerConfig

__all__ = ["FlowConfig", "read_config"]

LossName = Literal["cross-entropy", "mse"]


@dataclass(frozen=True)
class FlowConfig:
    """The whole file. ``model`` is resolved by the caller; ``data`` names a safetensors file with inputs and targets.

    Without ``data`` the batch is ``examples`` standard normal inputs of ``input_shape`` with random targets.
    ``learning_rates`` adds a sweep over one and the same time, ``steps`` steps of the first rate.
    """

    model: str
    input_shape: tuple[int, ...]
    classes: int
    examples: int = 32
    data: str | None = None
    loss: LossName = "cross-entropy"
    seed: int = 0
    steps: int = 50
    every: int = 5
    method: str = "auto"
    symmetries: bool = True
    learning_rates: tuple[float, ...] = ()
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", todays_word(self.loss, ("loss",)))
        if self.loss not in get_args(LossName):
            raise ValueError(f"loss is {self.loss!r}, expected one of {', '.join(get_args(LossName))}")
        self.optimizer.require_read()
        if self.optimizer.name == "lamb" or (self.optimizer.name == "rmsprop" and self.optimizer.momentum):
            raise ValueError(
                f"optimizer.name is {self.optimizer.name!r} with momentum {self.optimizer.momentum:g}: no flow models "
                "it; those of sgd, adam, adamw, and rmsprop without momentum do"
            )
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}, expected one of {', '.join(METHODS)}")
        if any(not (isfinite(rate) and rate > 0) for rate in self.learning_rates):
            raise ValueError(f"learning_rates is {list(self.learning_rates)}, expected positive numbers")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected zero or a positive number")
        for name in ("classes", "examples", "steps", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not self.input_shape or any(size < 1 for size in self.input_shape):
            raise ValueError(f"input_shape is {list(self.input_shape)}, expected sizes of 1 or more")


def read_config(path: str | FilePath) -> FlowConfig:
    """The configuration in a TOML file; an unknown key, a wrong type or an impossible value is a ``ValueError``."""
    return load_config(path, FlowConfig)
