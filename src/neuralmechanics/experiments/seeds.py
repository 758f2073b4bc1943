"""Independent reproducible random streams: one integer seed, one stream for every purpose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from zlib import crc32

import numpy as np
import torch

from neuralmechanics.functional.as_found import kept_randomness


def stream_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for the stream `purpose` of `seed`; different purposes give independent streams.

    >>> stream_seed(0, "order", 3) == stream_seed(0, "order", 3) != stream_seed(0, "order", 4)
    True
    """
    # Not `hash`, which gives a text another number in every process.
    words = [crc32(part.encode()) if isinstance(part, str) else part for part in purpose]
    state = np.random.SeedSequence([seed, *words]).generate_state(2, np.uint32)
    # 63 bits, so that a signed number of 64 holds them.
    return int(state[0]) << 31 | int(state[1]) >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator on the stream `purpose` of `seed` (CPU: the same numbers on every device)."""
    return torch.Generator().manual_seed(stream_seed(seed, *purpose))


@contextmanager
def seeded(seed: int, *purpose: str | int, device: torch.device | None = None) -> Iterator[None]:
    """Torch's shared stream on the CPU, and on an accelerator `device`, begins at a stream of `seed` in the block.

    After it every shared stream goes on as if nothing had been drawn, those of all accelerators in use included:
    `torch.manual_seed` would have moved them, whatever device the block is about.
    """
    restore = kept_randomness()
    start = stream_seed(seed, *purpose)
    torch.default_generator.manual_seed(start)
    try:
        if device is not None and device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(start)
        yield
    finally:
        restore()
