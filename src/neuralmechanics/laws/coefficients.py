"""The hyperparameters of one step as tensors beside the charges."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.laws.step import Hyperparameters


@dataclass(frozen=True)
class Numbers:
    """η, λ, β, a and the mode of a step that is the same for all charges, on the host."""

    learning_rate: float
    weight_decay: float
    momentum: float
    gain: float
    nesterov: bool
    decoupled: bool
    restart: bool
    active: bool


@dataclass(frozen=True)
class Coefficients:
    """η, λ, β, α, a and the masks of a step, each a scalar or of shape [charges], on the charges' device."""

    learning_rate: Float64[Tensor, " *charges"]
    weight_decay: Float64[Tensor, " *charges"]
    momentum: Float64[Tensor, " *charges"]
    dampening: Float64[Tensor, " *charges"]  # 0 where momentum is 0
    gain: Float64[Tensor, " *charges"]  # a: 1-α, but 1 on the first step and where momentum is 0
    nesterov: Bool[Tensor, " *charges"]  # False where momentum is 0
    decoupled: Bool[Tensor, " *charges"]
    running: Bool[Tensor, " *charges"]  # the momentum buffer takes part in this step
    restart: Bool[Tensor, " *charges"]  # the buffer is created by this step
    active: Bool[Tensor, " *charges"]
    strong: Bool[Tensor, " *charges"] | None = None  # where the decay's strength exceeds 1; None: nowhere
    numbers: Numbers | None = None  # the same where every hyperparameter is a number, alike for all charges

    @property
    def moving(self) -> Bool[Tensor, " *charges"] | None:
        """Where the step moved anything; None: everywhere, as far as the host knows."""
        return None if self.numbers is not None and self.numbers.active else self.active


def decay_strength(hyper: Hyperparameters) -> Float64[Tensor, " *charges"]:
    """How strongly decay alone moves a charge in one step; above 2 the training itself diverges.

    aηλ/(1+β) for the heavy ball, ηλ(1+2β)/(1+β) for Nesterov, ηλ when decoupled. A parameter without gradient obeys
    z² - (1+β-aηλ)z + β = 0, with a root below -1 beyond 2. Beyond 1 the law that measures W = |d|² still holds but
    feeds its own rounding back with a factor below -1, and has to carry |v|² instead. Source: theory.md 3.3b.

    >>> decay_strength(Hyperparameters(0.1, weight_decay=19.0, momentum=0.9))
    tensor(1., dtype=torch.float64)
    """
    require_hyperparameters(hyper)
    return _strength(_resolved(hyper, torch.zeros((), dtype=torch.float64)))


def require_hyperparameters(hyper: object) -> None:
    """TypeError, with what it is, for what is none."""
    if not isinstance(hyper, Hyperparameters):
        raise TypeError(f"hyper is a {type(hyper).__name__}; give Hyperparameters(learning_rate, …)")


def _strength(c: Coefficients) -> Tensor:
    reach = torch.where(c.nesterov, 1 + 2 * c.momentum, c.gain)
    return c.learning_rate * c.weight_decay * torch.where(c.decoupled, 1.0, reach / (1 + c.momentum))


def identity(hyper: Hyperparameters) -> tuple[object, ...] | None:
    """A key that is equal for two steps only if `hyper` says the same in both; None when that cannot be told.

    Numbers count by value, tensors as objects with their version: nothing on a device is read. Whoever keeps
    the key keeps `hyper` alive with it.
    """
    key: list[object] = []
    for name in fields(hyper):
        value = getattr(hyper, name.name)
        if not isinstance(value, Tensor):
            key.append(value)
        elif value.is_inference():  # such tensors change without trace
            return None
        else:
            key.extend((id(value), value._version))
    return tuple(key)


def resolve(hyper: Hyperparameters, charge: Float64[Tensor, " charges"]) -> Coefficients:
    """`hyper` as tensors beside `charge`.

    Raises ValueError for a tensor whose shape is neither a scalar's nor that of `charge`.
    """
    resolved = _resolved(hyper, charge)
    if any(isinstance(getattr(hyper, name.name), Tensor) for name in fields(hyper)):
        return replace(resolved, strong=_strength(resolved) > 1)
    # numbers are judged on the host, so that ordinary decay costs the steps nothing
    resolved = replace(resolved, numbers=_numbers(hyper))
    return replace(resolved, strong=_strength(resolved) > 1) if bool(decay_strength(hyper) > 1) else resolved


def _numbers(hyper: Hyperparameters) -> Numbers:
    running = hyper.momentum != 0
    restart = bool(hyper.first_step and running)
    return Numbers(
        learning_rate=float(hyper.learning_rate),
        weight_decay=float(hyper.weight_decay),
        momentum=float(hyper.momentum),
        gain=1.0 if restart or not running else 1.0 - float(hyper.dampening),
        nesterov=bool(hyper.nesterov and running),
        decoupled=bool(hyper.decoupled),
        restart=restart,
        active=bool(hyper.active),
    )


def _resolved(hyper: Hyperparameters, charge: Tensor) -> Coefficients:
    def number(name: str) -> Tensor:
        return _beside(name, getattr(hyper, name), charge, charge.dtype)

    def mask(name: str) -> Tensor:
        return _beside(name, getattr(hyper, name), charge, torch.bool)

    momentum = number("momentum")
    running = momentum != 0
    # torch ignores dampening where there is no momentum.
    dampening = torch.where(running, number("dampening"), 0.0)
    restart = mask("first_step") & running
    return Coefficients(
        learning_rate=number("learning_rate"),
        weight_decay=number("weight_decay"),
        momentum=momentum,
        dampening=dampening,
        # torch creates the buffer as a copy of the gradient, undampened.
        gain=torch.where(restart, 1.0, 1 - dampening),
        nesterov=mask("nesterov") & running,
        decoupled=mask("decoupled"),
        running=running,
        restart=restart,
        active=mask("active"),
    )


def _beside(name: str, value: float | bool | Tensor, charge: Tensor, dtype: torch.dtype) -> Tensor:
    if not isinstance(value, Tensor):
        # full, not tensor: a fill on the device, where a copy from the host would synchronise
        return torch.full((), value, dtype=dtype, device=charge.device)
    if value.dim() and value.shape != charge.shape:
        raise ValueError(
            f"{name} has shape {list(value.shape)}, the law follows {list(charge.shape)} charges; "
            "give a number or one entry a charge"
        )
    return value.detach().to(device=charge.device, dtype=dtype)
