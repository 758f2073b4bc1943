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

    def behind(self, names: Iterable[str]) -> frozenset[str]:
        """The buffers and frozen parameters that operations are made of."""
