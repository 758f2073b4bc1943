"""Torch's defaults as the monitor's own work expects them, whatever the loop around it has set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["own_defaults"]


@contextmanager
def own_defaults() -> Iterator[None]:
    """No gradients are recorded, and what names no device lies on the host."""
    with torch.no_grad():
        # A device context costs every torch function a call: only where the loop has set another device, which an empty
        # tensor tells in a tenth of the time that torch.get_default_device() takes.
        if torch.empty(0).device.type == "cpu":
            yield
        else:
            with torch.device("cpu"):
                yield
