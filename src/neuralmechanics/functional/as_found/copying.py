"""A model's float64 twin, whatever its attributes hold."""

from __future__ import annotations

import copy

import torch
from torch import nn

from neuralmechanics.functional.as_found.reach import Reach

__all__ = ["double_copy", "plain_module"]


def plain_module(model: nn.Module) -> nn.Module:
    """The module behind ``torch.compile`` and data-parallel wrappers, whose parameter names the symmetries use."""
    # Wrappers may be nested either way round: a compiled module in a data-parallel one, and the reverse.
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def double_copy(model: nn.Module, device: str | None = None) -> nn.Module:
    """A copy with parameters and buffers in float64, on ``device`` where one is named; of the plain module.

    An output that was kept from an earlier run, which torch refuses to copy, is copied without its history.
    """
    model = plain_module(model)
    reach = Reach([model], parameters=False, outside=False)
    history = [kept.tensor for kept in reach.tensors if not kept.tensor.is_leaf]
    # What stands in deepcopy's memo counts as copied already, so torch is never asked to copy these.
    twin = copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in history})
    return twin.to(device=device, dtype=torch.float64)
