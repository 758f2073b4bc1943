"""What a flow asks of symmetries: the charges at given parameters, and the quadratic form behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

__all__ = ["Charges", "PairedCharges"]


class Charges(Protocol):
    """Conserved quantities of a loss: their values at given parameters, and the kind of each."""

    @property
    def kinds(self) -> tuple[str, ...]: ...

    def charge(self, params: Mapping[str, Tensor]) -> Tensor: ...


class PairedCharges(Charges, Protocol):
    """Charges with their polarised form ⟨a, Mb⟩ (⟨a, 1⟩ for translations), one entry a charge."""

    @property
    def quadratic(self) -> Tensor: ...

    def pair(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor: ...

    def residual(self, gradients: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Tensor:
        """⟨g, ξ(θ)⟩, which is ⟨g, Mθ⟩ for charges about zero."""
        ...
