"""Slices of tensors, and the coefficients that make charges of their sums."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from torch import Tensor

__all__ = ["SliceTerm", "SliceView", "spread"]


@dataclass(frozen=True)
class SliceView:
    """All slices of ``parameter``, seen with ``shape``, obtained by fixing the indices along the ``kept`` dimensions.

    Slices are numbered in row-major order of the kept dimensions. Rows of a matrix are ``kept=(0,)``, columns
    ``kept=(1,)``; input channels of a linear layer behind a flatten are ``shape=(out, channels, area), kept=(1,)``.
    """

    parameter: str
    shape: tuple[int, ...]
    kept: tuple[int, ...]

    def __post_init__(self) -> None:
        if list(self.kept) != sorted(set(self.kept)) or any(not 0 <= k < len(self.shape) for k in self.kept):
            raise ValueError(
                f"slice view of {self.parameter!r}: kept dimensions {self.kept} must be increasing positions of the "
                f"view's shape {self.shape}"
            )

    @property
    def size(self) -> int:
        """Number of slices."""
        return math.prod(self.shape[k] for k in self.kept)

    @property
    def summed(self) -> tuple[int, ...]:
        """The dimensions that are summed over."""
        return tuple(d for d in range(len(self.shape)) if d not in self.kept)


@dataclass(frozen=True, eq=False)
class SliceTerm:
    """Coefficients S[charge, slice] of one view, as coordinates: ``S[charges[k], slices[k]] = coefficients[k]``."""

    view: SliceView
    charges: np.ndarray
    slices: np.ndarray
    coefficients: np.ndarray

    def __post_init__(self) -> None:
        sizes = {len(self.charges), len(self.slices), len(self.coefficients)}
        if len(sizes) > 1:
            raise ValueError(
                f"slice term of {self.view.parameter!r}: {len(self.charges)} charges, {len(self.slices)} slices and "
                f"{len(self.coefficients)} coefficients; give one of each an entry"
            )
        if sizes != {0} and not (self.slices.min() >= 0 and self.slices.max() < self.view.size):
            raise ValueError(
                f"slice term of {self.view.parameter!r}: slices {self.slices.min()} to {self.slices.max()} of a view "
                f"that has {self.view.size}; number them from 0"
            )
        if sizes != {0} and self.charges.min() < 0:
            raise ValueError(f"slice term of {self.view.parameter!r}: charges are numbered from 0")

    def offset(self, by: int) -> SliceTerm:
        """The same term with its charges renumbered ``by`` higher."""
        return SliceTerm(self.view, self.charges + by, self.slices, self.coefficients)


def spread(values: Float64[Tensor, " slices"], view: SliceView) -> Tensor:
    """The adjoint of the slice sum: a tensor of the view's shape that is constant on every slice (broadcastable)."""
    return values.reshape([n if d in view.kept else 1 for d, n in enumerate(view.shape)])
