"""The frame of every law here: a memory of shape [charges] that starts, is saved and continues."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.laws.state import LawState
from neuralmechanics.laws.step import Drives, Hyperparameters


class ChargeLaw(ABC):
    """What the laws here have in common: a memory that starts, is saved and continues. Each adds its own step.

    A law of one's own adds a `name`, the drives that it `needs` (fields of `Drives`), and `step`, in which
    `self._state["charge"]` is what it predicts and `self._state.move(None, charge=…)` replaces it. It is given to a
    monitor as a class, `Monitor(…, laws=["exact", Mine])`, or fed a recorded history by `replay(Mine(quadratic), …)`:

    >>> import torch
    >>> class Halving(ChargeLaw):
    ...     name = "halving"
    ...     needs = ("update_energy",)
    ...     def step(self, hyper, drives):
    ...         energy = self._state.energy("update_energy", drives)
    ...         self._state.move(None, charge=self._state["charge"] / 2 + energy)
    >>> law = Halving()
    >>> law.start(torch.tensor([4.0]))
    >>> law.step(Hyperparameters(0.1), Drives(update_energy=torch.ones(1)))
    >>> law.value
    tensor([3.], dtype=torch.float64)
    """

    name: str
    needs: tuple[str, ...] = ()
    """the drives that must be measured at every step"""
    memory: tuple[str, ...] = ()
    """what is remembered beside `charge` and `quadratic`"""

    def __init__(self, quadratic: Bool[Tensor, " charges"] | None = None) -> None:
        self._state = LawState(self.name, quadratic)

    @property
    def value(self) -> Float64[Tensor, " charges"]:
        """The charges the law predicts now; NaN where it does not hold."""
        return self._state["charge"]

    def start(
        self, charge0: Float64[Tensor, " charges"], companion0: Float64[Tensor, " charges"] | None = None
    ) -> None:
        """Begin at `charge0`; the companion ⟨θ,v⟩ matters only to laws that remember one."""
        self._state.start(charge0)

    @abstractmethod
    def step(self, hyper: Hyperparameters, drives: Drives) -> None:
        """Advance by one optimiser step; ValueError names a drive that is needed and was not given."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything the law remembers."""
        return self._state.save()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self._state.load(state, self.memory)
