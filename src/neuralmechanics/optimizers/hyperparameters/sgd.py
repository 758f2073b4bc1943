"""The hyperparameters of stochastic gradient descent with momentum: one value for all that read, model or plan it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from neuralmechanics.optimizers.hyperparameters.bounds import require_number

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Sgd"]

Number = TypeVar("Number", bound="float | Tensor", covariant=True)
# Of whichever type the numbers are: a plain 0 is right for a number, for an entry a charge, and on every device.
_ZERO: Any = 0.0
_NUMBERS = ("learning_rate", "weight_decay", "momentum", "dampening")
# The last two are those of one step, `laws.Hyperparameters`.
_SWITCHES = ("nesterov", "decoupled", "first_step", "active")


@dataclass(frozen=True)
class Sgd(Generic[Number]):
    """η, λ, β, α of v ← βv + (1-α)(g + λθ), θ ← θ - ηv, as ``torch.optim.SGD`` takes its steps.

    ``nesterov``: θ ← θ - η(G + βv), G = g + λθ. ``decoupled``: θ ← (1-ηλ)θ - ηv with G free of λ (SGDW).
    The first step takes v = G whatever α is, and β = 0 switches α off. ``Sgd[float]`` holds plain numbers; elsewhere
    a number may be a tensor, with one entry a charge or on an accelerator.

    Raises ValueError for a plain negative η, λ or β, TypeError for what is no number, or no truth value (entries of
    tensors are not read: that would synchronise).

    >>> Sgd(learning_rate=0.5, momentum=0.9, dampening=0.2)
    Sgd(learning_rate=0.5, weight_decay=0.0, momentum=0.9, dampening=0.2, nesterov=False, decoupled=False)
    >>> Sgd(learning_rate=-0.1)
    Traceback (most recent call last):
    ValueError: learning_rate is -0.1, which is negative; give a number >= 0
    """

    learning_rate: Number
    weight_decay: Number = _ZERO
    momentum: Number = _ZERO
    dampening: Number = _ZERO
    nesterov: bool | Tensor = False
    decoupled: bool | Tensor = False

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            number = getattr(self, name)
            if _is_tensor(number):
                continue
            if type(number) is not float:
                require_number(name, number)
            if name != "dampening" and not number >= 0:
                fault = "negative" if number < 0 else "not a number"
                raise ValueError(f"{name} is {number}, which is {fault}; give a number >= 0")
        for name in _SWITCHES:
            switch = getattr(self, name, False)
            if switch is not True and switch is not False and not _is_tensor(switch):
                raise TypeError(f"{name} is {switch!r}, a {type(switch).__name__}; give True or False")

    @property
    def time_step(self: Sgd[float]) -> float:
        """Natural time h = η(1-α) of one step; η when β = 0."""
        # At β = 0 torch keeps no buffer, and α has no say.
        return self.learning_rate * (1 - self.dampening if self.momentum else 1.0)


def _is_tensor(value: object) -> bool:
    # By what only tensors have: this module is read where torch is not needed.
    return hasattr(value, "requires_grad")
