"""Kills: at random moments, at each named point of publication, by each signal. What was acknowledged must be there."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.durability import faults, training
from tests.durability.process import Ended, Forge, send_after

import neuralmechanics as nm
from neuralmechanics.monitor.store import merging
from neuralmechanics.monitor.store.atomic import is_leftover
from neuralmechanics.monitor.store.merging import MERGED

_MORE = 5


def points(folder: Path, merged: int = MERGED) -> list[tuple[str, int]]:
    """Each named point of a session that merges, with the passings at which a kill is tried."""
    listen = faults.Listen()
    with pytest.MonkeyPatch.context() as patch:
        faults.install(listen, patch)
        patch.setattr(merging, "MERGED", merged)
        training.session(folder / "dry", 0, merged + 2)
    found = []
    for point in dict.fromkeys(listen.points):
        times = listen.points.count(point)
        # A merge removes all its single shards: the first, one in the middle, and the last are places of their own.
        found += [(point, n) for n in sorted({1, 2, (times + 1) // 2, times - 1, times}) if 1 <= n <= times]
    return found


def kill_at_points(
    forge: Forge,
    folder: Path,
    chosen: list[tuple[str, int]],
    merged: int = MERGED,
    sides: Callable[[str], tuple[bool, ...]] = lambda point: (False, True),
) -> Iterator[str]:
    """Kill a session at each point (before, after, as `sides` says); read it, continue it, and read it again."""
    for number, (point, occurrence) in enumerate(chosen):
        for after in sides(point):
            path = folder / f"kill-{number}-{after}"
            job = {"kind": "session", "path": str(path), "first": 0, "count": merged + 2, "merged": merged}
            ended = forge.run(job | {"kill": [point, occurrence, after]})
            assert ended.status == -signal.SIGKILL, (point, occurrence, after, ended)
            _require_whole(path, ended)
            _require_continues(path, ended)
            shutil.rmtree(path)
            yield point


def _require_whole(path: Path, ended: Ended) -> None:
    if not (path / "run.json").exists():
        assert ended.safe == -1
        return
    run = nm.open_run(path)
    assert run.verify()["sound"].all()
    steps = training.require_true(run)
    # The record after the acknowledged one may be safe already, its acknowledgement lost with the process.
    assert len(steps) in (ended.safe + 1, ended.safe + 2)
    assert np.array_equal(steps, np.arange(len(steps)))


def _require_continues(path: Path, ended: Ended) -> None:
    first = max(ended.safe, 0)
    training.session(path, first, _MORE)
    run = nm.open_run(path)
    assert run.verify()["sound"].all()
    assert np.array_equal(training.require_true(run), np.arange(first + _MORE))
    assert not [p for p in path.rglob("*") if is_leftover(p)]


def random_signals(forge: Forge, folder: Path, how: signal.Signals, trials: int, seed: int = 0) -> Iterator[int]:
    """Signals at random moments of a monitored training; yields the last step of each, -1 for none."""
    chance = random.Random(seed)
    _, _, undisturbed = training.train(None, 2 * MERGED + 30)
    assert undisturbed is not None
    truth = undisturbed.run.data
    for trial in range(trials):
        path = folder / f"signal-{how}-{trial}"
        # Around the records at which shards are merged, and anywhere else.
        records = chance.choice([0, 1, MERGED - 1, MERGED, MERGED + 1, chance.randrange(1, 2 * MERGED)])
        job = {"kind": "train", "path": str(path), "steps": 100_000, "every": chance.choice([1, 1, 3])}
        ended = forge.run(job, send_after(how, records, chance.uniform(0, 0.01)))
        assert ended.status == (130 if how == signal.SIGINT else -how), ended
        if (path / "run.json").exists():
            run = nm.open_run(path)
            last = _require_true_run(run, truth, ended)
            if how == signal.SIGKILL:  # the others end a monitor, which records the last step
                every = int(job["every"])
                assert last <= ended.safe + every
                assert np.array_equal(run.data["step"].values, np.arange(0, last + 1, every))
                assert last < 1 or np.isfinite(run.data["loss"].values[1:]).all()
            yield last
        else:
            assert ended.safe == -1
            yield -1
        shutil.rmtree(path, ignore_errors=True)


def _require_true_run(run: nm.Run, truth: nm.Run, ended: Ended) -> int:
    assert run.verify()["sound"].all()
    steps = run.data["step"].values
    last = int(steps[-1]) if len(steps) else -1
    assert last >= ended.safe
    known = [step for step in steps if step <= int(truth["step"].values[-1])]
    mine, true = run.data.sel(step=known), truth.sel(step=known)
    for name in ("charge", "predicted"):
        assert np.allclose(mine[name].values, true[name].values, rtol=1e-12, atol=1e-14, equal_nan=True)
    # A record of half a step would be off by a step's length: 1e-3 and more.
    exact = run.data["predicted"].sel(law="exact") - run.data["charge"]
    assert len(steps) < 2 or float(np.abs(exact / run.data["scale"]).max()) < 1e-12
    return last


def counted(found: Iterator[object], told: Callable[[int], None] = lambda n: None) -> int:
    """How many there were."""
    number = 0
    for number, _ in enumerate(found, 1):
        told(number)
    return number
