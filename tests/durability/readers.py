"""Reads beside a training that records and merges as fast as it can."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from tests.durability import training
from tests.durability.process import Forge

import neuralmechanics as nm
from neuralmechanics.monitor import NotARunError


def beside_a_writer(forge: Forge, path: Path, reads: int) -> int:
    """Read runs, each at most a hundred times, while they are written; how many reads saw a whole, growing state."""
    good = 0
    while good < reads:
        good += _beside(forge, path.with_name(f"{path.name}-{good}"), min(100, reads - good))
    return good


def _beside(forge: Forge, path: Path, reads: int) -> int:
    stop = threading.Event()
    writer = threading.Thread(target=_write, args=(forge, path, stop))
    writer.start()
    good, seen = 0, 0
    try:
        while good < reads:
            try:
                run = nm.open_run(path)
            except NotARunError:
                assert not seen  # before the run is there
                continue
            data = run.data
            if not data.sizes["step"]:
                continue
            steps = training.require_true(run, since=max(0, seen - 1))
            assert len(steps) >= seen
            assert np.array_equal(steps, np.arange(len(steps)))
            good, seen = good + 1, len(steps)
    finally:
        stop.set()
        writer.join()
    return good


def _write(forge: Forge, path: Path, stop: threading.Event) -> None:
    first = 0
    while not stop.is_set():
        job = {"kind": "session", "path": str(path), "first": first, "count": 400, "merged": 16, "pause": 0.002}
        ended = forge.run(job)
        assert ended.status == 0, ended
        first = ended.safe + 1
