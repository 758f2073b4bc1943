"""An optimiser in words: what a configuration file or the command line says of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from typing import Any, Literal

from neuralmechanics.configuration.build import require_types
from neuralmechanics.optimizers.hyperparameters.sgd import Sgd

__all__ = ["OptimizerConfig", "OptimizerName"]

OptimizerName = Literal["sgd", "adam", "adamw", "rmsprop", "lamb"]
_COMMON = frozenset(("name", "learning_rate", "weight_decay"))
# What each optimiser reads besides.
_READ = {
    "sgd": frozenset(("momentum", "dampening", "nesterov")),
    "adam": frozenset(("betas", "epsilon")),
    "adamw": frozenset(("betas", "epsilon")),
    "rmsprop": frozenset(("momentum", "smoothing", "epsilon")),
    "lamb": frozenset(("betas", "epsilon")),
}


@dataclass(frozen=True)
class OptimizerConfig:
    """Hyperparameters of one optimiser. One that it does not have must keep its default.

    Except for `betas` and `epsilon`, which a grid over several optimisers sets for those that have them.
    """

    name: OptimizerName = "sgd"
    """which optimiser"""
    learning_rate: float = 0.1
    """step size η"""
    weight_decay: float = 0.0
    """λ: coupled (L2) for sgd, adam and rmsprop, decoupled for adamw and lamb"""
    momentum: float = 0.0
    """β of sgd and rmsprop"""
    dampening: float = 0.0
    """α of sgd"""
    nesterov: bool = False
    """Nesterov's form of sgd momentum"""
    betas: tuple[float, float] = (0.9, 0.999)
    """averaging factors of adam, adamw and lamb"""
    epsilon: float = 1e-8
    """denominator floor of adam, adamw, rmsprop and lamb"""
    smoothing: float | None = None
    """averaging factor of rmsprop; None: .99, as torch has it"""

    def __post_init__(self) -> None:
        require_types(self, "optimizer.")
        if self.name not in _READ:
            raise ValueError(f"optimizer.name must be one of {', '.join(_READ)}, got {self.name!r}")
        _require(isfinite(rate := self.learning_rate) and rate > 0, "learning_rate", rate, "a positive number")
        _require(isfinite(decay := self.weight_decay) and decay >= 0, "weight_decay", decay, "zero or positive")
        _require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        _require(0 <= self.dampening <= 1, "dampening", self.dampening, "in [0, 1]")
        _require(all(0 <= beta < 1 for beta in self.betas), "betas", self.betas, "in [0, 1)")
        _require(isfinite(self.epsilon) and self.epsilon > 0, "epsilon", self.epsilon, "positive")
        _require(self.smoothing is None or 0 <= self.smoothing < 1, "smoothing", self.smoothing, "in [0, 1)")
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError("optimizer.nesterov needs optimizer.momentum > 0 and optimizer.dampening = 0")
        # What would be ignored was meant to do something.
        self.require_read("betas", "epsilon")

    def require_read(self, *lenient: str) -> None:
        """Refuse a setting other than the `lenient` ones that this optimiser would ignore and that was changed."""
        for item in fields(self):
            ignored = item.name not in _COMMON | _READ[self.name] | set(lenient)
            if ignored and getattr(self, item.name) != item.default:
                raise ValueError(
                    f"optimizer.{item.name} belongs to {_owners(item.name)}; {item.name} has no meaning for "
                    f"{self.name}: leave it out"
                )

    @property
    def sgd(self) -> Sgd[float]:
        """The hyperparameters of SGD; ValueError for another optimiser."""
        if self.name != "sgd":
            raise ValueError(f"optimizer.name must be 'sgd', got {self.name!r}")
        return Sgd(self.learning_rate, self.weight_decay, self.momentum, self.dampening, self.nesterov)

    @property
    def settings(self) -> dict[str, Any]:
        """What the optimiser reads besides learning rate and decay, by name; settings left to torch are missing."""
        found = {name: getattr(self, name) for name in sorted(_READ[self.name])}
        return {name: value for name, value in found.items() if value is not None}


def _owners(setting: str) -> str:
    *others, last = (name for name, read in _READ.items() if setting in read)
    return f"{', '.join(others)} and {last}" if others else last


def _require(holds: bool, name: str, value: object, bound: str) -> None:
    if not holds:
        raise ValueError(f"optimizer.{name} must be {bound}, got {value!r}")
