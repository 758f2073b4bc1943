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
    """b_A → b_A + u, b_B → b_B - M u, where M sums the weight over everything but its kept slices.

    ``source`` and ``absorber`` view the two biases elementwise; ``weight`` keeps two dimensions, outputs and inputs
    (kernel positions are summed). Generator k shifts element ``elements[k]`` of the source, which the map reads in
    its input column ``inputs[k]``.
    """

    source: SliceView
    absorber: SliceView
    weight: SliceView
    output_first: bool
    elements: np.ndarray
    inputs: np.ndarray

    def matrix(self, params: Mapping[str, Tensor]) -> Float64[Tensor, "outputs generators"]:
        """The columns of the linear map that the generators use."""
        weight = params[self.weight.parameter].detach().double().reshape(self.weight.shape)
        if self.weight.summed:
            weight = weight.sum(dim=self.weight.summed)
        full = weight if self.output_first else weight.mT
        return full[:, torch.as_tensor(self.inputs, device=full.device)]

    def add_generator_(self, out: dict[str, Tensor], params: Mapping[str, Tensor], weights: Tensor) -> None:
        """Adds (u on the source, -M u on the absorber), for u given by ``weights``, to ``out``."""
        source, absorber = params[self.source.parameter], params[self.absorber.parameter]
        shift = torch.zeros(source.numel(), dtype=torch.float64, device=source.device)
        shift.index_add_(0, torch.as_tensor(self.elements, device=source.device), weights)
        answer = -(self.matrix(params) @ weights)
        for name, like, step in (
            (self.source.parameter, source, shift),
            (self.absorber.parameter, absorber, answer),
        ):
            moved = step.reshape(like.shape).to(like.dtype)
            out[name] = out[name] + moved if name in out else moved
