"""Long runs and wide ones: memory over many steps, disk, opening and pauses with many charges and records.

    python benchmarks/monitor_scale.py --steps 100000 --charges 100000 --records 2000

Times are those of the processor, and pauses also those that pass: on a machine that does other things the first are
the ones to read.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

import neuralmechanics as nm

Batch = tuple[Tensor, Tensor]


def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def resident() -> float:
    """Memory that this process holds, in MB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def on_disk(folder: Path) -> float:
    """Megabytes of all files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def long_run(steps: int, folder: Path) -> None:
    """One small network for many steps, a record every 50: memory at every tenth of the way."""
    torch.manual_seed(0)
    sizes = (10, 21, 8, 7)
    layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    model, batch = nn.Sequential(*layers[:-1]), (torch.randn(8, 10), torch.randint(7, (8,)))
    symmetries = nm.find_symmetries(model, batch, loss_fn)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    print(f"{steps:,} steps, {symmetries.charges} charges, a record every 50: memory and disk at each tenth")
    with nm.Monitor(model, optimizer, symmetries, folder, every=50, residuals=True, strict=True) as monitor:
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            loss = loss_fn(model, batch)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
            if step % (steps // 10) == 0:
                print(f"  step {step:>8,}  {resident():8.1f} MB  {on_disk(folder):8.2f} MB on disk", flush=True)


def wide_run(charges: int, records: int, folder: Path) -> None:
    """A layer of many units, a record at every step: disk, the longest step, opening."""
    torch.manual_seed(0)
    width = charges // 2
    model = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 4))
    batch = torch.randn(8, 4), torch.randint(4, (8,))
    symmetries = nm.find_symmetries(model, batch, loss_fn)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    loss_fn(model, batch).backward()
    own, passing = [], []
    with nm.Monitor(model, optimizer, symmetries, folder, every=1, laws=["exact"], strict=True):
        for _ in range(records):
            before = time.process_time(), time.perf_counter()
            optimizer.step()
            own.append(time.process_time() - before[0])
            passing.append(time.perf_counter() - before[1])
    own, passing = sorted(own), sorted(passing)
    print(f"{symmetries.charges:,} charges, {records:,} records: {on_disk(folder) / 1e3:.2f} GB on disk")
    print(f"  a step with its record {1e3 * own[len(own) // 2]:.1f} ms of the processor, the longest {own[-1]:.2f} s")
    print(f"  by the clock {1e3 * passing[len(passing) // 2]:.1f} ms, the longest {passing[-1]:.2f} s")
    before = time.process_time(), time.perf_counter()
    run = nm.open_run(folder)
    last = run.data["charge"][-1].values
    used, passed = time.process_time() - before[0], time.perf_counter() - before[1]
    print(
        f"  opened, and the last of {len(run.data['step']):,} records read, in {used:.1f} s ({passed:.1f} by the clock)"
    )
    print(f"  {resident():,.0f} MB then; the largest charge {abs(last).max():.3g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--charges", type=int, default=100_000)
    parser.add_argument("--records", type=int, default=2000)
    options = parser.parse_args()
    warnings.simplefilter("ignore", nm.monitor.MonitorWarning)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.records:
            wide_run(options.charges, options.records, Path(folder) / "wide")
        if options.steps:
            long_run(options.steps, Path(folder) / "long")


if __name__ == "__main__":
    main()
