"""Several processes: one model sharded over them, and a sweep of tiny trainings."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import neuralmechanics as nm
from suite.rows import Row, least_seconds

TITLE = "Several processes"
TEXT = """\
A model sharded by FSDP2 over one, two and four processes: what a monitor adds to a step of the optimiser in
each process, beside the same with one process. Then a sweep of tiny trainings in one worker, by the clock,
beside a shell loop over the command `train`."""


def rows(quick: bool) -> list[Row]:
    """Sharded steps, then the sweep."""
    counts = [1, 2] if quick else [1, 2, 4]
    units = 16 if quick else 2048
    found = [_sharded(count, units) for count in counts]
    sizes = [f"{count} processes, {500 * units:,} parameters" for count in counts]
    shown = [
        Row("monitored step, in each process", size, value, "ms", "one process", found[0])
        for size, value in zip(sizes, found, strict=True)
    ]
    return [*shown, _sweep(2 if quick else 6)]


def _sharded(processes: int, units: int) -> float:
    """Milliseconds that a monitor adds to a step, the mean over the processes."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        answers: Any = context.Queue()
        given = (processes, units, folder, answers)
        started = [context.Process(target=_follow, args=(rank, *given)) for rank in range(processes)]
        for process in started:
            process.start()
        found = [answers.get() for _ in started]
        for process in started:
            process.join()
    return sum(found) / processes


def _follow(rank: int, processes: int, units: int, folder: str, answers: Any) -> None:
    from torch.distributed.fsdp import fully_shard

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=processes)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(489, units), nn.ReLU(), nn.Linear(units, 10))
    batch = torch.randn(4, 489), torch.randint(10, (4,))
    symmetries = nm.find_symmetries(model, batch, _loss)
    for layer in (model[0], model[2]):
        fully_shard(layer)
    fully_shard(model)
    bare, followed = (torch.optim.SGD(model.parameters(), lr=1e-8, momentum=0.9) for _ in range(2))
    _loss(model, batch).backward()
    bare.step()
    with nm.Monitor(model, followed, symmetries, every=10**9, laws=["exact"]):
        followed.step()
        took = least_seconds({"bare": bare.step, "followed": followed.step}, rounds=5, repeats=5)
    answers.put(1e3 * (took["followed"] - took["bare"]))
    dist.barrier()
    dist.destroy_process_group()


def _sweep(count: int) -> Row:
    """Seconds of the clock a point, on one worker."""
    from neuralmechanics.experiments.sweep import Sweep, expand, run_sweep

    base = {"model": "mlp", "steps": 10, "batch_size": 16, "images": {"train_limit": 200, "test_limit": 40}}
    with tempfile.TemporaryDirectory() as folder:
        points = expand(base, {"seed": list(range(count))})
        begun = time.perf_counter()
        run_sweep(Sweep(points, Path(folder) / "sweep"), workers=1, backend="processes")
        together = time.perf_counter() - begun
        begun = time.perf_counter()
        options = ["--steps", "10", "--batch-size", "16", "--images.train-limit", "200", "--images.test-limit", "40"]
        for seed in range(count):
            out = str(Path(folder) / f"alone-{seed}")
            command = [
                sys.executable,
                "-m",
                "neuralmechanics.cli",
                "train",
                "--out",
                out,
                "--seed",
                str(seed),
                *options,
            ]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        alone = time.perf_counter() - begun
    return Row(
        "a tiny training of a sweep",
        f"{count} points, one worker",
        together / count,
        "s",
        "the command train",
        alone / count,
    )


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])
