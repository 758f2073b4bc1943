"""How the optimiser of a run moves scale-free weights, as far as its name and its groups tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neuralmechanics.laws.equilibrium import Response, memory_gain
from neuralmechanics.optimizers.hyperparameters.sgd import Sgd

Vector = np.ndarray[Any, Any]
_NORMALISED = ("adam", "adamw", "nadam", "radam", "adamax", "rmsprop", "lion", "muon", "adafactor", "signsgd", "sophia")
_PROPORTIONAL = ("lamb", "lars")
# Means of gradients, whose memory is that of uncorrelated gradients where the symmetry holds for them.
_MEANS = ("adam", "adamw", "radam", "rmsprop")


@dataclass(frozen=True)
class Motion:
    """The response of an optimiser's steps to |θ|, the numbers of its first group, and what is known of its memory."""

    response: Response
    hyper: Sgd[float]
    follows_sgd: bool
    gain: float | None
    """how many times |d|² the norm grows by in a step; None where only measuring tells"""
    second: float = 0.0
    """what a step keeps of the mean of squared gradients that its gradient is divided by; 0 where there is none"""

    @property
    def decay_share(self) -> float:
        """Σ 2hλ/(1-β) over what the budget's decay part takes of a norm: momentum goes on with it."""
        β = self.hyper.momentum
        if not self.follows_sgd or β == 0:
            return 1.0
        return 1 / ((1 - β) * (1 + β)) if self.hyper.nesterov else 1 / (1 - β)

    def effective_rate(self, rate: Vector, squared: Vector) -> Vector:
        """The learning rate that directions see: h/((1-β)n), η/|θ| or η, of rates η and squared norms n."""
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.response == "gradient":
                unit = replace(self.hyper, learning_rate=1.0).time_step / (1 - self.hyper.momentum)
                found: Vector = unit * rate / squared
                return found
            return rate / np.sqrt(squared) if self.response == "normalised" else rate


def motion_of(configuration: Mapping[str, Any]) -> Motion:
    """The motion that a run's configuration tells of; ValueError, with the reason, where nothing is known."""
    described = configuration["optimizer"]
    name, groups = str(described["name"]), described["groups"]
    group = groups[0] if groups else {}
    if name == "SGD":
        η, λ, β, α = (float(group.get(key, 0.0)) for key in ("lr", "weight_decay", "momentum", "dampening"))
        hyper = Sgd(η, λ, β, α, nesterov=bool(group["nesterov"]))
        return Motion("gradient", hyper, follows_sgd=True, gain=memory_gain(hyper))
    parts = [part.strip().lower() for part in name.split(",")]
    if all(part in _PROPORTIONAL for part in parts):
        return Motion("proportional", _decoupled(group, 0.0), follows_sgd=False, gain=None)
    if not all(part in _NORMALISED for part in parts):
        raise ValueError(f"nothing is known of how the steps of {name} depend on the norm of scale-free weights")
    first = {float(g["betas"][0]) for g in groups if "betas" in g}
    momentum = first.pop() if len(first) == 1 else 0.0
    plain = len(parts) == 1 and parts[0] in _MEANS and not first
    if parts == ["rmsprop"] and float(group.get("momentum", 0.0)):
        plain = False
    hyper = _decoupled(group, momentum if plain else 0.0)
    gain = memory_gain(hyper) if plain else None
    return Motion("normalised", hyper, follows_sgd=False, gain=gain, second=_second(parts, group))


def _second(parts: list[str], group: Mapping[str, Any]) -> float:
    if len(parts) > 1 or parts[0] not in ("adam", "adamw", "nadam", "radam", "rmsprop"):
        return 0.0
    return float(group["alpha"] if parts == ["rmsprop"] else group["betas"][1])


def _decoupled(group: Mapping[str, Any], momentum: float) -> Sgd[float]:
    rate, decay = float(group.get("lr", 0.0)), float(group.get("weight_decay", 0.0))
    return Sgd(rate, decay, momentum, decoupled=True)
