"""The hyperparameters of one parameter at one step, as `param_groups` hold them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from torch import Tensor
from torch.optim import SGD, Optimizer

from neuralmechanics.optimizers.hyperparameters.decoupling import decays_apart
from neuralmechanics.optimizers.hyperparameters.sgd import Sgd

__all__ = ["HYPERPARAMETERS", "Setting", "follows_sgd", "read_setting"]

# What a group holds that a setting is made of.
HYPERPARAMETERS = ("lr", "weight_decay", "momentum", "dampening", "nesterov", "maximize", "decoupled_weight_decay")


@dataclass(frozen=True)
class Setting(Sgd["float | Tensor"]):
    """What a parameter group holds: SGD's hyperparameters, and whether g is ascended rather than descended.

    A number is a tensor only where the optimiser holds it on an accelerator, so that reading it waits for nothing.
    An optimiser that has no such number holds nan there.
    """

    maximize: bool = False

    def __post_init__(self) -> None:
        """Whatever an optimiser holds is read: nan where it holds no such number."""

    @cached_property
    def has_momentum(self) -> bool:
        """Whether torch keeps a buffer: β ≠ 0, tensors included."""
        return isinstance(self.momentum, Tensor) or self.momentum != 0.0

    @cached_property
    def without_decay(self) -> bool:
        """Whether λ = 0, as far as the host knows."""
        return not isinstance(self.weight_decay, Tensor) and self.weight_decay == 0

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for settings that hold the same numbers, in the order of the fields; tensors by their identity."""
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(("tensor", id(value)) if isinstance(value, Tensor) else _comparable(value) for value in values)


def read_setting(optimizer: Optimizer, group: Mapping[str, Any], *, sgd: bool | None = None) -> Setting:
    """What a group holds now. For optimisers other than SGD, what has the same meaning; momentum is nan there.

    `sgd`: whether the optimiser is read as SGD, by default where it is torch's.

    >>> import torch
    >>> from torch import nn
    >>> sgd = torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    >>> read_setting(sgd, sgd.param_groups[0])
    Setting(learning_rate=0.1, weight_decay=0.0001, momentum=0.9, dampening=0, nesterov=False, ...)
    """
    known = follows_sgd(optimizer) if sgd is None else sgd
    return Setting(
        learning_rate=_number(group.get("lr", math.nan)),
        weight_decay=_number(group.get("weight_decay", 0.0)),
        momentum=_number(group["momentum"]) if known else math.nan,
        dampening=_number(group.get("dampening", 0.0)) if known else math.nan,
        nesterov=bool(group.get("nesterov", False)),
        decoupled=not known and decays_apart(optimizer, group),
        maximize=bool(group.get("maximize", False)),
    )


def follows_sgd(optimizer: Optimizer) -> bool:
    """Whether the update is that of `torch.optim.SGD`: the class itself or a subclass that keeps its `step`."""
    return isinstance(optimizer, SGD) and inspect.unwrap(type(optimizer).step) is inspect.unwrap(SGD.step)


def _number(value: Any) -> Any:
    if value is None:
        return math.nan  # a rate that the optimiser works out for itself
    # On the host it costs nothing to read; on an accelerator the host would have to wait.
    if isinstance(value, Tensor) and value.device.type == "cpu":
        return float(value)
    return value.detach() if isinstance(value, Tensor) else value


def _comparable(value: Any) -> Any:
    # A nan differs from itself, and equal settings must have equal keys.
    return "nan" if isinstance(value, float) and math.isnan(value) else value
