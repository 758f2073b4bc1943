"""A training so small that hundreds of them can be killed, the same to the last bit whenever it is made anew."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import neuralmechanics as nm
from neuralmechanics.monitor.store.run_store import RunStore
from neuralmechanics.symmetry import Symmetries

Arrays = dict[str, np.ndarray[Any, Any]]


def build() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    return model, torch.randn(8, 3, dtype=torch.float64, generator=draw), torch.randint(2, (8,), generator=draw)


@functools.cache
def symmetries() -> Symmetries:
    model, x, y = build()
    return nm.find_symmetries(model, (x, y), lambda m, batch: nn.functional.cross_entropy(m(batch[0]), batch[1]))


def train(
    path: str | Path | None,
    steps: int,
    *,
    safe: Callable[[int], None] = lambda step: None,
    every: int = 1,
    strict: bool = True,
    monitored: bool = True,
) -> tuple[list[float], nn.Module, nm.Monitor | None]:
    """Heavy ball with decay; `safe` is told every step whose record is on the disk. Losses, model, monitor."""
    model, x, y = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)

    def loop(monitor: nm.Monitor | None) -> list[float]:
        losses, said = [], None
        for _ in range(steps):
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            if monitor is not None:
                monitor.log(loss=loss)
                if monitor.recorded_step != said and monitor.recorded_step is not None:
                    said = monitor.recorded_step
                    safe(said)
        return losses

    if not monitored:
        return loop(None), model, None
    with nm.Monitor(model, optimizer, symmetries(), path, every=every, strict=strict) as monitor:
        losses = loop(monitor)
    if path is not None and monitor.recorded_step is not None:
        safe(monitor.recorded_step)
    return losses, model, monitor


@functools.cache
def content() -> dict[str, Any]:
    """What `run.json` of a session holds."""
    configuration = {"monitor": {"laws": ["exact"]}, "model": "m", "parameters": 1, "optimizer": {"name": "SGD"}}
    return {"configuration": configuration, "origin": {}, "symmetries": symmetries().to_dict()}


def record(step: int) -> Arrays:
    """A record as a monitor would write it, a function of its step alone."""
    charges = len(symmetries().labels)
    row = np.random.default_rng(step).standard_normal((1, charges))
    return {
        "step": np.array([step], dtype=np.int64),
        "time": np.array([float(step)]),
        "charge": row,
        "predicted/exact": row + 1e-9,
        "state/exact/charge": row[0],
    }


def session(path: Path, first: int, count: int, safe: Callable[[int], None] = lambda step: None) -> None:
    """Open a run, write `count` records from step `first` on in a segment of their own, close it."""
    store = RunStore.open(path, content())
    store.lock()
    try:
        size = np.ones(len(symmetries().labels))
        store.begin_segment(
            {"start_step": first, "continued": True}, {"charge": record(first)["charge"][0], "scale": size}
        )
        for number in range(count):
            store.append(number, record(first + number))
            safe(first + number)
    finally:
        store.close()


def require_true(run: nm.Run, since: int = 0) -> np.ndarray[Any, Any]:
    """The steps of a session's run, each of whose records from row `since` on must be what was written, bit for bit."""
    steps, charges = run.data["step"].values, run.data["charge"].values
    for step, charge in zip(steps[since:], charges[since:], strict=True):
        assert np.array_equal(charge, record(int(step))["charge"][0])
    return np.asarray(steps)
