"""A comparison of flows as a TOML file: one's own model, its optimiser, and what to measure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from pathlib import Path as FilePath
from typing import Any, get_type_hints

from neuralmechanics.files import read_toml
from neuralmechanics.flows.integration.integrate import METHODS

__all__ = ["FlowConfig", "OptimizerConfig", "read_config"]

_OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
_LOSSES = ("cross_entropy", "mse")
# Which settings an optimiser reads: a setting that would be ignored is an error.
_READ = {
    "sgd": {"momentum", "dampening", "nesterov"},
    "adam": {"betas", "eps"},
    "adamw": {"betas", "eps"},
    "rmsprop": {"smoothing", "eps"},
}


@dataclass(frozen=True)
class OptimizerConfig:
    """``[optimizer]``: torch's own optimiser of that name."""

    name: str = "sgd"
    learning_rate: float = 0.1
    weight_decay: float = 0.0
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    smoothing: float = 0.99
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if self.name not in _OPTIMIZERS:
            raise ValueError(f"optimizer.name is {self.name!r}, expected one of {', '.join(_OPTIMIZERS)}")
        if not (isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"optimizer.learning_rate is {self.learning_rate}, expected a positive number")
        if not (isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"optimizer.weight_decay is {self.weight_decay}, expected zero or a positive number")
        factors = {"momentum": self.momentum, "smoothing": self.smoothing, "betas": max(self.betas)}
        factors |= {"least of betas": min(self.betas)}
        for name, factor in factors.items():
            if not 0 <= factor < 1:
                raise ValueError(f"optimizer.{name} is {factor}, expected a number in [0, 1)")
        defaults = {item.name: item.default for item in fields(self)}
        for setting in set().union(*_READ.values()) - _READ[self.name]:
            if getattr(self, setting) != defaults[setting]:
                raise ValueError(f"optimizer.{setting} has no meaning for {self.name}: leave it out")

    @property
    def settings(self) -> dict[str, Any]:
        """Keyword arguments of torch's class, but for the learning rate."""
        renamed = {"smoothing": "alpha"}
        read = {renamed.get(name, name): getattr(self, name) for name in sorted(_READ[self.name])}
        return {"weight_decay": self.weight_decay} | read


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
    loss: str = "cross_entropy"
    seed: int = 0
    steps: int = 50
    every: int = 5
    method: str = "rk4"
    symmetries: bool = True
    learning_rates: tuple[float, ...] = ()
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        if self.loss not in _LOSSES:
            raise ValueError(f"loss is {self.loss!r}, expected one of {', '.join(_LOSSES)}")
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
    config: FlowConfig = _build(FlowConfig, read_toml(path), "")
    return config


def _build(kind: Callable[..., Any], values: Mapping[str, Any], prefix: str) -> Any:
    hints = get_type_hints(kind)
    for key in values:
        if key not in hints:
            nearest = difflib.get_close_matches(key[:80], hints, n=1, cutoff=0.0)[0]
            raise ValueError(f"unknown key {prefix + key!r} in the flow configuration; the nearest is {nearest!r}")
    if kind is FlowConfig:
        for key in ("model", "input_shape", "classes"):
            if key not in values:
                raise ValueError(f"the flow configuration lacks {key!r}")
    return kind(**{key: _converted(prefix + key, value, hints[key]) for key, value in values.items()})


def _converted(key: str, value: Any, hint: Any) -> Any:
    if hint is OptimizerConfig:
        if not isinstance(value, dict):
            raise ValueError(f"{key} is {value!r}, expected a table [{key}]")
        return _build(OptimizerConfig, value, f"{key}.")
    if type(value) is int and abs(value) >= 1 << 63:
        raise ValueError(f"{key} is beyond 2^63 in size, which no setting can be")
    if hint is float and type(value) is int:
        return float(value)
    if getattr(hint, "__origin__", None) is tuple:
        item, length = hint.__args__[0], None if hint.__args__[-1] is Ellipsis else len(hint.__args__)
        if not isinstance(value, list) or (length is not None and len(value) != length):
            raise ValueError(f"{key} is {value!r}, expected a list{'' if length is None else f' of {length}'}")
        return tuple(_converted(key, entry, item) for entry in value)
    wanted = str if hint == str | None else hint
    if type(value) is not wanted:
        raise ValueError(f"{key} is {value!r}, expected {wanted.__name__}")
    return value
