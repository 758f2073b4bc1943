"""Optimisers from their configuration."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from neuralmechanics.experiments.config import OptimizerConfig
from neuralmechanics.experiments.training.lamb import Lamb


def make_optimizer(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """The torch optimiser (or `Lamb`) that `config` describes, over one parameter group."""
    rate, decay, betas, epsilon = config.learning_rate, config.weight_decay, config.betas, config.epsilon
    if config.name == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=rate,
            momentum=config.momentum,
            dampening=config.dampening,
            weight_decay=decay,
            nesterov=config.nesterov,
        )
    if config.name == "adam":
        return torch.optim.Adam(parameters, lr=rate, betas=betas, eps=epsilon, weight_decay=decay)
    if config.name == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, betas=betas, eps=epsilon, weight_decay=decay)
    if config.name == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=rate, eps=epsilon, weight_decay=decay, momentum=config.momentum)
    return Lamb(parameters, learning_rate=rate, betas=betas, epsilon=epsilon, weight_decay=decay)
