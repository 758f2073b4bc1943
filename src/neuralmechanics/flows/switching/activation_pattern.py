"""Activation patterns: on which side of its kink every rectifier of a loss sits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neuralmechanics.flows.equation.objective import Loss
from neuralmechanics.functional.dispatching import DispatchMode

__all__ = ["activation_pattern", "count_changes"]

_AT_ZERO = {
    torch.ops.aten.relu,
    torch.ops.aten.relu_,
    torch.ops.aten.leaky_relu,
    torch.ops.aten.leaky_relu_,
    torch.ops.aten._prelu_kernel,
    torch.ops.aten.threshold,
    torch.ops.aten.threshold_,
    torch.ops.aten.abs,
    torch.ops.aten.clamp_min,
}


class _Signs(DispatchMode):
    """Notes the signs of what enters each piecewise linear operation that has its kink at zero."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.signs: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in _AT_ZERO:
            self.signs.append((args[0] > 0).reshape(-1))
        return func(*args, **(kwargs or {}))


def activation_pattern(loss: Loss, params: Mapping[str, Tensor]) -> Tensor | None:
    """The signs of all inputs of ReLU and its kin while the loss is computed, as one bool vector; None without any.

    Seen are relu, leaky_relu, prelu, threshold, abs and clamp_min, however the loss calls them.
    """
    with torch.no_grad(), _Signs() as seen:
        loss(dict(params))
    return torch.cat(seen.signs) if seen.signs else None


def count_changes(before: Tensor | None, after: Tensor | None) -> int:
    """How many activations switched sides."""
    return int((before ^ after).sum()) if before is not None and after is not None else 0
