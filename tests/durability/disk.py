"""Errors of the disk: each call of each kind fails once, or from some call on for a while. One error ends nothing."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.durability import faults, training

import neuralmechanics as nm
from neuralmechanics.monitor.following import recorder
from neuralmechanics.monitor.store import merging
from neuralmechanics.monitor.store.atomic import is_leftover

STEPS = 11


def single_errors(folder: Path, kind: str, length: int = 1, error: int = 28, steps: int = STEPS) -> Iterator[str]:
    """Let the n-th call of a kind fail, n = 1, 2, … until no call is left; yields what failed."""
    losses, model, _ = training.train(None, steps, monitored=False)
    asked = cache(recorder.provenance)  # each time a process of git
    number = 1
    while True:
        path = folder / f"{kind}-{number}-{length}"
        fault = faults.FailAt(kind, number, length, error)
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore", nm.monitor.MonitorWarning)
            patch.setattr(merging, "MERGED", 4)
            patch.setattr(recorder, "provenance", asked)
            faults.install(fault, patch)
            mine, trained, monitor = _train(path, length, steps)
        assert monitor is not None
        assert mine == losses
        assert all(map(torch.equal, model.state_dict().values(), trained.state_dict().values()))
        if monitor.failure is None:
            _require_complete(path, steps)
        else:
            # An error at the very last attempt leaves what was acknowledged.
            _require_complete(path, monitor.recorded_step)
        shutil.rmtree(path, ignore_errors=True)
        if not fault.failed:
            return
        yield fault.failed[0]
        number += 1


def _train(path: Path, attempts: int, steps: int) -> tuple[list[float], torch.nn.Module, nm.Monitor | None]:
    """Where the run cannot be opened nothing was begun, and the next attempt finds nothing in its way."""
    for _ in range(attempts):
        try:
            return training.train(path, steps, strict=False)
        except OSError:
            continue
    return training.train(path, steps, strict=False)


def _require_complete(path: Path, last: int | None) -> None:
    if last is None:
        return
    run = nm.open_run(path)
    assert run.verify()["sound"].all()
    steps = run.data["step"].values
    assert np.array_equal(steps[: last + 1], np.arange(last + 1))
    exact = (run.data["predicted"].sel(law="exact") - run.data["charge"]) / run.data["scale"]
    assert float(np.abs(exact).max()) < 1e-12
    assert np.isfinite(run.data["loss"].values[1:]).all()
    assert not [p for p in path.rglob("*") if is_leftover(p) and p.is_dir()]
