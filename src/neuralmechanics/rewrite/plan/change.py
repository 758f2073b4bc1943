"""What a change of one tensor is, to whoever applies it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

__all__ = ["Change"]


class Change(Protocol):
    """A new value of the tensor ``tensor`` from its old one and from other tensors as they then are.

    ``apply`` is given and returns wide numbers (float64, or what the caller chose); rounding is the plan's.
    """

    @property
    def tensor(self) -> str:
        """The name of what changes."""

    @property
    def kind(self) -> str:
        """One word."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the other tensors that are needed."""

    @property
    def axes(self) -> frozenset[int] | None:
        """The dimensions along which it tells entries apart; None where the whole tensor is needed at once."""

    def apply(self, tensor: Tensor, others: Mapping[str, Tensor]) -> Tensor:
        """The new value, of the dtype of ``tensor``."""

    def inverse(self) -> Change | None:
        """What takes it back, where something does."""

    def to_dict(self) -> dict[str, Any]:
        """A summary as plain data; the numbers of vectors and matrices are left out."""
