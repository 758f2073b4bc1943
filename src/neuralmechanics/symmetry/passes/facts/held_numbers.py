"""What passes ask of tensors that are made of the model's own numbers: buffers, tables, frozen parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from torch import Tensor

from neuralmechanics.symmetry.program.value import Value

__all__ = ["Held"]


class Held(Protocol):
    """What is known of tensors that are made of the model's own numbers, by value or by the operation's name."""

    def entries(self, value: Value) -> np.ndarray | None:
        """The entries; None where they are not known."""

    def names(self, values: Iterable[int]) -> frozenset[str]:
        """The buffers and frozen parameters that values are made of, by their indices."""

    def named(self, name: str) -> Tensor | None:
        """The tensor of an operation."""

    def operation(self, value: Value) -> str:
        """The name of the operation that gives a value; empty where none does."""

    def tabulated(self, value: Value, base: Value, count: int) -> tuple[np.ndarray, frozenset[str]] | None:
        """The entries of ``value`` where those of ``base`` are 0 to ``count`` - 1, and the buffers they are made of.

        None where each is not a function of the entry of ``base`` in the same place.
        """

    def behind(self, names: Iterable[str]) -> frozenset[str]:
        """The buffers and frozen parameters that operations are made of."""
