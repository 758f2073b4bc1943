"""Where the trainings of a sweep run, and how many of them at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence

from neuralmechanics.experiments.config import TrainConfig

# What a process takes of an accelerator before its first tensor, and what is left free.
_CONTEXT, _FREE = 600 << 20, 0.1


def device_pool(device: str | None) -> list[str]:
    """The devices that `device` names: all accelerators for `cuda`, itself otherwise; none for None.

    Raises `ValueError` for accelerators that are not there.
    """
    if device is None or device == "auto":
        import torch

        # With several, each process is told its own; with one or none a run finds it by itself.
        several = torch.cuda.is_available() and torch.cuda.device_count() > 1
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())] if several else []
    if device.startswith("cuda"):
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        names = [f"cuda:{number}" for number in range(count)]
        if (device != "cuda" and device not in names) or not names:
            raise ValueError(f"device {device!r} is not available: there are {count} CUDA devices; use --device cpu")
        return names if device == "cuda" else [device]
    import torch

    try:
        torch.device(device)
    except RuntimeError:
        known = "give cpu, cuda (all accelerators) or cuda:1"
        raise ValueError(f"device {device!r} is none that torch knows; {known}") from None
    return [device]


def default_workers(configs: Sequence[TrainConfig], devices: Sequence[str]) -> int:
    """One training a core; on accelerators as many as fit into what is free of their memory, by the largest of them."""
    import torch

    cores = os.cpu_count() or 1
    named = [name for name in devices if name.startswith("cuda")]
    if not configs or (devices and not named) or not torch.cuda.is_available():
        return cores
    if not named and any(config.device == "cpu" for config in configs):
        return cores
    from neuralmechanics.experiments.sweep.estimate import memory_of

    most = max(memory_of(config) for config in configs) + _CONTEXT
    return min(cores, sum(fitting(_free(torch.device(name)), most) for name in named or ["cuda:0"]))


def fitting(free: int, each: int) -> int:
    """How many trainings of `each` bytes go into `free` ones with a tenth left over; one at least, which may then fail.

    >>> fitting(80 << 30, 10 << 30), fitting(8 << 30, 10 << 30)
    (7, 1)
    """
    return max(1, int((1 - _FREE) * free) // each)


def _free(device: object) -> int:
    import torch

    free, _ = torch.cuda.mem_get_info(device)  # type: ignore[arg-type]
    return int(free)
