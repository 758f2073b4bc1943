"""A habit of torch's foreach SGD: under Nesterov without weight decay it adds the velocity into the gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

__all__ = ["NesterovHabit"]

_Key = tuple[frozenset[tuple[torch.device, torch.dtype]], bool | None, bool | None]


class NesterovHabit:
    """Whether `param.grad` holds g + βv rather than g when a step has ended.

    Which implementation torch picks by default depends on devices, types and torch's version, so it is tried: one
    step of torch's own function on single numbers, remembered for each combination.
    """

    def __init__(self) -> None:
        self._known: dict[_Key, bool] = {}

    def applies(self, group: Mapping[str, Any]) -> bool:
        """For a group of SGD as it stands; tried only where all conditions are met."""
        if not group["nesterov"] or group["maximize"] or isinstance(group["weight_decay"], Tensor):
            return False
        if group["weight_decay"] != 0 or group["momentum"] == 0:
            return False
        kinds = frozenset((p.device, p.dtype) for p in group["params"])
        key = (kinds, group.get("foreach"), group.get("fused"))
        if key not in self._known:
            self._known[key] = _adds_velocity(*key)
        return self._known[key]


def _adds_velocity(kinds: Iterable[tuple[torch.device, torch.dtype]], foreach: bool | None, fused: bool | None) -> bool:
    with torch.no_grad():
        params, gradients, buffers = ([torch.ones(1, device=d, dtype=t) for d, t in kinds] for _ in range(3))
        sgd(
            params,
            gradients,
            list(buffers),
            foreach=foreach,
            fused=fused,
            weight_decay=0.0,
            momentum=0.5,
            lr=0.5,
            dampening=0.0,
            nesterov=True,
            maximize=False,
            has_sparse_grad=False,
        )
    # With g = v = 1 the habit would leave g + βv = 1.5.
    return any(float(g) != 1.0 for g in gradients)
