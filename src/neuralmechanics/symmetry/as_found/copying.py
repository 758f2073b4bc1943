"""A model's float64 twin, whatever its attributes hold."""

from __future__ import annotations

import copy

import torch
from torch import nn

from neuralmechanics.symmetry.as_found.reach import Reach

__all__ = ["double_copy"]


def double_copy(model: nn.Module, device: str | None = None) -> nn.Module:
    """A copy with parameters and buffers in float64, on ``device`` where one is named.

    An output that was kept from an earlier run, which torch refuses to copy, is copied without its history.
    """
    reach = Reach([model], parameters=False, outside=False)
    history = [kept.tensor for kept in reach.tensors if not kept.tensor.is_leaf]
    twin = copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in history})
    return twin.to(device=device, dtype=torch.float64)
