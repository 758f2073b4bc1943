"""The hyperparameters of stochastic gradient descent with momentum: one value for all that read, model or plan it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Sgd"]

Number = TypeVar("Number", bound="float | Tensor", covariant=True)
# Of whichever type the numbers are: a plain 0 is right for a number, for an entry a charge, and on every device.
_ZERO: Any = 0.0


@dataclass(frozen=True)
class Sgd(Generic[Number]):
    """η, λ, β, α of v ← βv + (1-α)(g + λθ), θ ← θ - ηv, as ``torch.optim.SGD`` takes its steps.

    ``nesterov``: θ ← θ - η(G + βv), G = g + λθ. ``decoupled``: θ ← (1-ηλ)θ - ηv with G free of λ (SGDW).
    The first step takes v = G whatever α is, and β = 0 switches α off. ``Sgd[float]`` holds plain numbers; elsewhere
    a number may be a tensor, with one entry a charge or on an accelerator.

    >>> Sgd(learning_rate=0.5, momentum=0.9, dampening=0.2)
    Sgd(learning_rate=0.5, weight_decay=0.0, momentum=0.9, dampening=0.2, nesterov=False, decoupled=False)
    """

    learning_rate: Number
    weight_decay: Number = _ZERO
    momentum: Number = _ZERO
    dampening: Number = _ZERO
    nesterov: bool | Tensor = False
    decoupled: bool | Tensor = False

    @property
    def time_step(self: Sgd[float]) -> float:
        """Natural time h = η(1-α) of one step; η when β = 0."""
        # At β = 0 torch keeps no buffer, and α has no say.
        return self.learning_rate * (1 - self.dampening if self.momentum else 1.0)
