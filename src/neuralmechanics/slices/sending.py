"""Numbers sent to a device without waiting for it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["sent", "weighed"]


def sent(values: np.ndarray, device: torch.device) -> Tensor:
    """A copy on the device for which the host does not wait: of pages that the system cannot move meanwhile."""
    here = torch.from_numpy(np.ascontiguousarray(values))
    return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here.to(device)


def weighed(weights: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Weights of forms in double precision on the device, wherever they are."""
    if isinstance(weights, Tensor):
        return weights.to(device, torch.float64)
    return sent(np.asarray(weights, dtype=np.float64), device)
