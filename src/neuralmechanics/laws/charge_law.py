"""The frame of every law here: a memory of shape [charges] that starts, is saved and continues."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.laws.state import LawState
from neuralmechanics.laws.step import Drives, Hyperparameters


class ChargeLaw(ABC):
    """What the laws here have in common: a memory that starts, is saved and continues. Each adds its own step."""

    name: str
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
