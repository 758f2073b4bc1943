"""Families written by hand, with the few members that counting asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralmechanics.symmetry.families.actions import Form


@dataclass(frozen=True)
class LinearPair:
    """W₁ → A W₁, W₂ → W₂ A⁻¹: ``width``² generators."""

    first: str
    second: str
    width: int

    def units(self) -> Iterator[tuple[Form, Tensor]]:
        for i in range(self.width):
            for j in range(self.width):
                matrix = torch.zeros(self.width, self.width, dtype=torch.float64)
                matrix[i, j], matrix[j, i] = 1.0, 1.0 if i <= j else -1.0
                yield ("symmetric" if i <= j else "antisymmetric"), matrix

    def generator(self, params: Mapping[str, Tensor], weights: Tensor | None = None) -> dict[str, Tensor]:
        matrix = torch.eye(self.width, dtype=torch.float64) if weights is None else weights
        return {self.first: matrix @ params[self.first].double(), self.second: -params[self.second].double() @ matrix}


@dataclass(frozen=True)
class Translation:
    """Every slice of ``name`` across ``dim`` shifts by one number: columns over classes for dim 0."""

    name: str
    dim: int

    def units(self) -> Iterator[tuple[Form, Tensor]]:
        yield "constant", torch.ones(1, dtype=torch.float64)

    def generator(self, params: Mapping[str, Tensor], weights: Tensor | None = None) -> dict[str, Tensor]:
        factor = 1.0 if weights is None else float(weights)
        return {self.name: torch.full_like(params[self.name], factor, dtype=torch.float64)}
