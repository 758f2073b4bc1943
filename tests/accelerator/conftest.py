"""Everything here needs a CUDA device, and is skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def device() -> Iterator[torch.device]:
    """The first accelerator, with arithmetic that repeats itself."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    precision, tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.cuda.manual_seed_all(0)
    yield torch.device("cuda", 0)
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = tf32
