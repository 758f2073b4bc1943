"""Affine symmetries: a bias shifts by u, a later bias absorbs what a linear map makes of it: no charge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import SliceView

__all__ = ["AffineTerm"]


@dataclass(frozen=True, eq=False)
class AffineTerm:
    """What one bias absorbs of the shifts: b → b - M u, with M the weight summed over all but its two kept dimensions.

    The shift enters the map in its input columns ``inputs`` with ``coefficients`` times the weight of ``generators``.
    ``output_first``: whether the outputs are the first of the kept dimensions.
    """

    absorber: str
    weight: SliceView
    output_first: bool
    inputs: np.ndarray
    generators: np.ndarray
    coefficients: np.ndarray

    def matrix(self, params: Mapping[str, Tensor]) -> Float64[Tensor, "outputs inputs"]:
        """The linear map, outputs first."""
        weight = params[self.weight.parameter].detach().double().reshape(self.weight.shape)
        if self.weight.summed:
            weight = weight.sum(dim=self.weight.summed)
        return weight if self.output_first else weight.mT

    def add_generator_(self, out: dict[str, Tensor], params: Mapping[str, Tensor], weights: Tensor) -> None:
        """Adds the absorbing bias's answer -M u to ``out``."""
        matrix = self.matrix(params)
        device = matrix.device
        amount = weights[torch.as_tensor(self.generators, device=device)]
        amount = amount * torch.as_tensor(self.coefficients, dtype=torch.float64, device=device)
        shift = torch.zeros(matrix.shape[1], dtype=torch.float64, device=device)
        shift.index_add_(0, torch.as_tensor(self.inputs, device=device), amount)
        like = params[self.absorber]
        step = -(matrix @ shift).reshape(like.shape).to(like.dtype)
        out[self.absorber] = out[self.absorber] + step if self.absorber in out else step
