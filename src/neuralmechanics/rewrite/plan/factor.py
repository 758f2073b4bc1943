"""Vectors that a rewrite multiplies by or adds: known numbers, or powers of other tensors that are read when needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

__all__ = ["Factor", "Power"]


@dataclass(frozen=True, eq=False)
class Power:
    """(factor·γ[index] + offset)^power, entry by entry, of a tensor γ in row-major order; an index of -1 stands for 1.

    ``size``: of absolute values.
    """

    tensor: str
    index: np.ndarray
    power: np.ndarray
    factor: float = 1.0
    offset: float = 0.0
    size: bool = False

    def vector(self, others: Mapping[str, Tensor]) -> Float64[Tensor, " entries"]:
        """The numbers, in float64."""
        read = others[self.tensor].detach().double().reshape(-1).cpu()
        value = self.factor * read[torch.as_tensor(self.index.clip(min=0))] + self.offset
        value = torch.where(torch.as_tensor(self.index >= 0), value, 1.0)
        power = torch.as_tensor(self.power, dtype=torch.float64)
        base = value.abs() if self.size else value
        return torch.where(power == 1.0, base, base**power)

    def inverse(self) -> Power:
        """With opposite powers."""
        return replace(self, power=-self.power)

    def __str__(self) -> str:
        name = self.tensor if (self.factor, self.offset) == (1.0, 0.0) else f"({self.offset:g} + {self.tensor})"
        name = (
            name if self.factor == 1.0 or self.offset == 0.0 else f"({self.offset:g} + {self.factor:g}·{self.tensor})"
        )
        name = f"|{name}|" if self.size else name
        powers = np.unique(self.power)
        return name if len(powers) == 1 and powers[0] == 1.0 else f"{name}^{powers[0]:g}" if len(powers) == 1 else name


@dataclass(frozen=True, eq=False)
class Factor:
    """A vector Π values · powers of other tensors, in float64.

    >>> half = Factor(torch.tensor([2.0, 4.0], dtype=torch.float64)).inverse()
    >>> half.vector({}).tolist()
    [0.5, 0.25]
    """

    values: Tensor | None = None
    powers: tuple[Power, ...] = ()

    @classmethod
    def of(cls, tensor: str, size: int, power: float = 1.0, *, factor: float = 1.0, offset: float = 0.0) -> Factor:
        """The entries of another tensor, to a power."""
        return cls(None, (Power(tensor, np.arange(size), np.full(size, power), factor, offset),))

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the tensors that are read."""
        return tuple(dict.fromkeys(power.tensor for power in self.powers))

    def vector(self, others: Mapping[str, Tensor]) -> Float64[Tensor, " entries"]:
        """The numbers; ``ValueError`` where a power of zero is asked for that has none."""
        total = None if self.values is None else self.values.double()
        for power in self.powers:
            value = power.vector(others)
            total = value if total is None else total * value
        if total is None:
            raise ValueError("a factor without numbers: give values, or the tensors of which it is made")
        if not bool(total.isfinite().all()):
            zero = ", ".join(map(str, self.powers)) or "the values given"
            raise ValueError(f"{zero} is not finite at entry {int((~total.isfinite()).to(torch.int64).argmax())}")
        return total

    def inverse(self) -> Factor:
        """One over it."""
        values = None if self.values is None else 1 / self.values.double()
        return Factor(values, tuple(power.inverse() for power in self.powers))

    def __str__(self) -> str:
        known = [] if self.values is None else [f"{self.values.numel()} numbers"]
        return " · ".join([*known, *map(str, self.powers)])
