"""What gradient flow conserves of U σ(V X) on one data set, where σ forbids any symmetry of the weights alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["DATA_SET_POTENTIALS", "DataSetCharges"]

# Φ with Φ' = σ/σ': tanh sinh²(z)/2, sigmoid z + e^z, ReLU z²/2 (and 0 where the unit is off: σ is 0 there).
DATA_SET_POTENTIALS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda z: torch.sinh(z).square() / 2,
    "sigmoid": lambda z: z + torch.exp(z),
    "relu": lambda z: torch.relu(z).square() / 2,
}


@dataclass(frozen=True)
class DataSetCharges:
    """Q_j = Σ_k Φ(V_jk) - ½ Σ_i U_ij² of each hidden unit j, conserved for losses of U σ(V X) at X = 1.

    At X = 1 every weight V_jk reaches one example alone, so that scaling the activations of unit j by e^a is a
    motion of the weights, V_jk → σ⁻¹(e^a σ(V_jk)), which scaling its readers by e^{-a} undoes. Its generator is
    (σ/σ'(V_jk), -U_ij), the gradient of Q_j. On other data sets the loss has no such symmetry.
    ``inner`` names V, units by inputs, ``outer`` U, outputs by units. Source: Zhao, Ganev, Walters, Yu, Dehmamy 2023.

    >>> params = {"V": torch.zeros(1, 2, dtype=torch.float64), "U": torch.full((1, 1), 2.0, dtype=torch.float64)}
    >>> [DataSetCharges(name, "V", "U").charge(params).item() for name in ("tanh", "sigmoid", "relu")]
    [-2.0, 0.0, -2.0]
    """

    activation: str
    inner: str
    outer: str
    units: int = 1

    def __post_init__(self) -> None:
        if self.activation not in DATA_SET_POTENTIALS:
            known = ", ".join(DATA_SET_POTENTIALS)
            raise ValueError(f"activation is {self.activation!r}, expected one of {known}")

    @property
    def kinds(self) -> tuple[str, ...]:
        """One charge a unit."""
        return ("data set",) * self.units

    def charge(self, params: Mapping[str, Tensor]) -> Tensor:
        """The charge of each unit, in float64."""
        inner, outer = params[self.inner].double(), params[self.outer].double()
        return DATA_SET_POTENTIALS[self.activation](inner).sum(1) - outer.square().sum(0) / 2
