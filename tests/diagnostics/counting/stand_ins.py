"""Families written by hand, with the few members that counting asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LinearPair:
    """W₁ → A W₁, W₂ → W₂ A⁻¹: ``width``² generators."""

    first: str
    second: str
    width: int
    kind: str = "linear"
    blocks: int = 1

    @property
    def size(self) -> int:
        return self.width**2

    def generator(self, params: Mapping[str, Tensor], weights: Tensor | None = None) -> dict[str, Tensor]:
        matrix = torch.eye(self.width, dtype=torch.float64) if weights is None else weights.reshape(self.width, -1)
        return {self.first: matrix @ params[self.first].double(), self.second: -params[self.second].double() @ matrix}


@dataclass(frozen=True)
class Translation:
    """Every slice of ``name`` across ``dim`` shifts by one number: columns over classes for dim 0."""

    name: str
    dim: int
    width: int = 0
    kind: str = "translation"

    @property
    def size(self) -> int:
        return 1

    def generator(self, params: Mapping[str, Tensor], weights: Tensor | None = None) -> dict[str, Tensor]:
        factor = 1.0 if weights is None else float(weights)
        return {self.name: torch.full_like(params[self.name], factor, dtype=torch.float64)}
