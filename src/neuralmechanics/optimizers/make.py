"""Optimisers from their configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from neuralmechanics.optimizers.hyperparameters.config import OptimizerConfig
from neuralmechanics.optimizers.lamb import Lamb

__all__ = ["make_optimizer"]

_CLASSES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}
# Torch's own words, where they differ.
_TORCH = {"epsilon": "eps", "smoothing": "alpha"}


def make_optimizer(
    parameters: Iterable[Tensor], config: OptimizerConfig, *, learning_rate: float | None = None
) -> torch.optim.Optimizer:
    """The optimiser that `config` describes, over one parameter group; `learning_rate` replaces the configured one."""
    rate = config.learning_rate if learning_rate is None else learning_rate
    if config.name == "lamb":
        return Lamb(parameters, rate, weight_decay=config.weight_decay, **config.settings)
    settings: dict[str, Any] = {_TORCH.get(name, name): value for name, value in config.settings.items()}
    return _CLASSES[config.name](parameters, lr=rate, weight_decay=config.weight_decay, **settings)
