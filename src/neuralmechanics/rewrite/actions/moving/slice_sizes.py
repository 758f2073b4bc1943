"""How large the slices of tensors are that a scaling multiplies: by range, by the greatest entry, by length."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import SliceView

__all__ = ["MEASURES", "Measure", "slice_sizes"]

Measure = Literal["range", "max", "l2"]
MEASURES: tuple[str, ...] = get_args(Measure)


def slice_sizes(tensor: Tensor, view: SliceView, by: Measure) -> Float64[Tensor, " slices"]:
    """The size of each slice of the view: greatest less least entry, greatest absolute entry, or root of the sum of
    squares.

    >>> view = SliceView("w", (2, 3), (0,))
    >>> slice_sizes(torch.tensor([[1.0, -2.0, 0.0], [3.0, 3.0, 4.0]]), view, "range").tolist()
    [3.0, 1.0]
    """
    order = (*view.kept, *view.summed)
    rows = tensor.detach().double().reshape(view.shape).permute(order).reshape(view.size, -1)
    if not math.prod(view.shape):
        return torch.zeros(view.size, dtype=torch.float64)
    if by == "range":
        out = rows.amax(1) - rows.amin(1)
    elif by == "max":
        out = rows.abs().amax(1)
    else:
        out = rows.square().sum(1).sqrt()
    return out.cpu()
