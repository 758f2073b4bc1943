"""What a monitor adds to an optimiser's step, in units of one pass over the parameters (`torch._foreach_norm`).

    python benchmarks/monitor_passes.py --threads 2 --models vgg16 vgg16-bn mlp wide

Gradients are those of one backward pass, and steps follow each other with and without a monitor in one process, in
turns, so that a busy machine slows both alike. The least of all turns is printed, in the processor's own time and in
time that passes; on a machine that does other things the first is the one to read. `NEURALMECHANICS_COMPILE=0` shows
the plain version.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import neuralmechanics as nm
from neuralmechanics.experiments import build_model
from neuralmechanics.slices.native.library import library

Batch = tuple[Tensor, Tensor]
Times = tuple[float, float]
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "exact law": ("sgd", {"laws": ["exact"]}),
    "all laws": ("sgd", {}),
    "all laws, residuals": ("sgd", {"residuals": True}),
    "AdamW, identity": ("adamw", {}),
}


def models(name: str) -> tuple[nn.Module, Batch]:
    """A model and a batch: the paper's networks, an MLP of 470 parameters, a layer of 100,000 units."""
    torch.manual_seed(0)
    if name == "mlp":
        sizes = (10, 21, 8, 7)
        layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*layers[:-1]), (torch.randn(8, 10), torch.randint(7, (8,)))
    if name == "wide":
        wide = nn.Sequential(nn.Linear(4, 100_000), nn.ReLU(), nn.Linear(100_000, 4))
        return wide, (torch.randn(8, 4), torch.randint(4, (8,)))
    return build_model(name, input_shape=(3, 64, 64), classes=200), (
        torch.randn(4, 3, 64, 64),
        torch.randint(200, (4,)),
    )


def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def optimizer_of(kind: str, model: nn.Module) -> torch.optim.Optimizer:
    if kind == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=1e-8)
    return torch.optim.SGD(model.parameters(), lr=1e-8, momentum=0.9, weight_decay=1e-4)


def timed(work: Callable[[], object], repeats: int) -> Times:
    """Milliseconds a call, of the processor and of the clock."""
    own, passing = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        work()
    return 1e3 * (time.process_time() - own) / repeats, 1e3 * (time.perf_counter() - passing) / repeats


def least(times: list[Times]) -> Times:
    return min(own for own, _ in times), min(passing for _, passing in times)


def costs(model: nn.Module, symmetries: nm.Symmetries, turns: int) -> None:
    """One line a setting: what it adds to a step, and how many passes that is."""
    params = list(model.parameters())
    repeats = 5 if sum(p.numel() for p in params) > 100_000 else 300
    times: dict[str, list[Times]] = {}
    for _ in range(turns):
        times.setdefault("pass", []).append(timed(lambda: torch._foreach_norm(params), repeats))
        for name, (kind, options) in SETTINGS.items():
            optimizer = optimizer_of(kind, model)
            optimizer.step()
            times.setdefault(f"{kind} without", []).append(timed(optimizer.step, repeats))
            with nm.Monitor(model, optimizer, symmetries, every=10**9, strict=True, **options):
                optimizer.step()
                times.setdefault(name, []).append(timed(optimizer.step, repeats))
    one = least(times["pass"])
    print(f"  {'one pass':22s} {one[0]:9.3f} ms           {one[1]:9.3f} ms by the clock")
    for name, (kind, _) in SETTINGS.items():
        with_it, without = least(times[name]), least(times[f"{kind} without"])
        own, passing = (a - b for a, b in zip(with_it, without, strict=True))
        print(
            f"  {name:22s} {own:9.3f} ms {own / one[0]:6.2f} passes  {passing:9.3f} ms by the clock "
            f"{passing / one[1]:6.2f} passes"
        )


def records(model: nn.Module, symmetries: nm.Symmetries) -> None:
    """What one record takes, with the law `exact`: bytes on the disk, milliseconds."""
    optimizer = optimizer_of("sgd", model)
    optimizer.step()
    with (
        tempfile.TemporaryDirectory() as folder,
        nm.Monitor(
            model, optimizer, symmetries, Path(folder) / "run", every=10**9, strict=True, laws=["exact"]
        ) as monitor,
    ):
        times = []
        for _ in range(6):
            optimizer.step()
            times.append(timed(monitor.state_dict, 1))
        last = max((Path(folder) / "run").glob("*/records-*"), key=lambda path: path.name)
        size = last.stat().st_size
    own, passing = least(times)
    print(f"  a record: {size / 1e3:,.0f} kB, {own:.1f} ms of the processor, {passing:.1f} ms by the clock")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["vgg16", "vgg16-bn", "mlp", "wide"])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", nm.monitor.MonitorWarning)
    print(f"{options.threads} threads, {'compiled' if library() is not None else 'plain'}")
    for name in options.models:
        model, batch = models(name)
        symmetries = nm.find_symmetries(model, batch, loss_fn)
        loss_fn(model, batch).backward()
        print(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters, {symmetries.charges:,} charges")
        costs(model, symmetries, options.turns)
        records(model, symmetries)


if __name__ == "__main__":
    main()
