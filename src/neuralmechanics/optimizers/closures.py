"""Optimisers whose step evaluates the loss itself."""

from __future__ import annotations

import inspect

from torch.optim import Optimizer

__all__ = ["require_plain_step"]


def require_plain_step(optimizer: Optimizer) -> None:
    """Refuse an optimiser whose step must be given a closure: one gradient is no step of it.

    >>> import torch
    >>> require_plain_step(torch.optim.LBFGS([torch.zeros(1)]))
    Traceback (most recent call last):
    TypeError: LBFGS.step needs a closure, and evaluates the loss as often as it likes; give one whose step takes none
    """
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TypeError(
            f"{type(optimizer).__name__}.step needs a closure, and evaluates the loss as often as it likes; give one "
            "whose step takes none"
        )
