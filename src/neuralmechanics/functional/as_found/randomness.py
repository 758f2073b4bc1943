"""The shared streams of random numbers: Python's, numpy's, torch's on the CPU and on every device in use."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

__all__ = ["kept_randomness"]


def kept_randomness() -> Callable[[], None]:
    """Reads the state of every shared stream; the function returned puts all of them back."""
    python, array, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - models draw from it
    # Asking would start CUDA, which takes memory and forbids to fork; where it has not started nothing can have drawn.
    cuda: Any = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(array)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)

    return restore
