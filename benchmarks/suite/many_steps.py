"""Long runs: the time of a monitored step and the memory of the process, early and late."""

from __future__ import annotations

import gc
import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

import neuralmechanics as nm
from suite.rows import Row

TITLE = "Many steps"
TEXT = """\
A small network for many steps, all laws and residuals, a record every fifty: a step in the last tenth of the
run beside one in the second tenth, what the process holds then, and a whole monitored step beside the same
step without."""


def rows(quick: bool) -> list[Row]:
    """One run."""
    warnings.simplefilter("ignore", nm.monitor.MonitorWarning)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    steps = 200 if quick else 20_000
    model = nn.Sequential(nn.Linear(10, 21), nn.ReLU(), nn.Linear(21, 8), nn.ReLU(), nn.Linear(8, 7))
    batch = torch.randn(8, 10), torch.randint(7, (8,))
    symmetries = nm.find_symmetries(model, batch, _loss)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def train(count: int) -> float:
        begun = time.process_time()
        for _ in range(count):
            optimizer.zero_grad()
            _loss(model, batch).backward()
            optimizer.step()
        return 1e3 * (time.process_time() - begun) / count

    train(steps // 10)
    bare = train(steps // 10)
    tenths, held = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        nm.Monitor(model, optimizer, symmetries, Path(folder) / "run", every=50, residuals=True, strict=True),
    ):
        for _ in range(10):
            tenths.append(train(steps // 10))
            held.append(_resident())
    size = f"{steps:,} steps, {symmetries.charges} charges"
    return [
        Row("a step of the last tenth", size, tenths[-1], "ms", "one of the second tenth", tenths[1]),
        Row("memory after the last tenth", size, held[-1], "MB", "after the second tenth", held[1]),
        Row("a step with its monitor", size, min(tenths), "ms", "the same step without", bare),
    ]


def _resident() -> float:
    """Memory that this process holds, in MB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])
