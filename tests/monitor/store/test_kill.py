"""Whatever kills a recording process, the run holds exactly what it had acknowledged, whole."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import neuralmechanics as nm

PROGRAM = Path(__file__).with_name("recording_process.py")


@pytest.fixture(scope="module")
def recorder() -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recording_process", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def undisturbed(program: ModuleType) -> nm.Run:
    run: nm.Run = program.train(None, program.find(), 130)
    return run


def kill_once(recorder: subprocess.Popen[str], path: Path, records: int, seconds: float) -> int:
    """Kill some time after a number of acknowledged records; the last step acknowledged, -1 for none."""
    assert recorder.stdin is not None
    assert recorder.stdout is not None
    recorder.stdin.write(f"{path}\n")
    recorder.stdin.flush()
    process, safe, seen, killed = 0, -1, 0, False
    for line in recorder.stdout:
        word, _, number = line.strip().partition(" ")
        if word == "dead":
            return safe
        if word == "safe":
            safe = int(number)
            seen += 1
        if word == "pid":
            process = int(number)
        if process and seen >= records and not killed:
            time.sleep(seconds)
            os.kill(process, signal.SIGKILL)
            killed = True
    raise AssertionError("the recording process ended by itself")


# The kills of tests/durability ask the same by default, of one process for all that they kill.
@pytest.mark.slow
@pytest.mark.parametrize("trial", range(20))
def test_kill(recorder: subprocess.Popen[str], undisturbed: nm.Run, tmp_path: Path, trial: int) -> None:
    path, chance = tmp_path / "run", random.Random(trial)
    # Around record 64, where shards are merged, and anywhere else.
    records = chance.choice([1, 63, 64, 65, chance.randrange(1, 120)])
    safe = kill_once(recorder, path, records, chance.uniform(0, 0.02))
    assert safe >= records - 1
    run = nm.open_run(path)
    assert run.verify()["sound"].all()
    steps = run.data["step"].values
    # The record after the acknowledged one may be safe already, its acknowledgement lost with the process.
    assert len(steps) in (safe + 1, safe + 2)
    assert np.array_equal(steps, np.arange(len(steps)))
    count = min(len(steps), undisturbed.data.sizes["step"])
    for name in ("charge", "predicted"):
        found, whole = (data[name].isel(step=slice(0, count)).values for data in (run.data, undisturbed.data))
        assert np.allclose(found, whole, rtol=1e-12, atol=1e-14, equal_nan=True)
    if len(steps) > 1:
        assert np.isfinite(run.data["loss"].values[1:]).all()
