"""A sweep's workers end with it: after Ctrl-C, after SIGTERM, after SIGKILL of the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neuralmechanics.experiments.sweep import expand, processes
from neuralmechanics.experiments.sweep.grid import Sweep
from neuralmechanics.experiments.sweep.processes import run_in_processes
from neuralmechanics.progress import SilentMeter

# Seconds, more than anything here takes on a machine that is busy with other things.
LONG = 240
GRID = """
[base]
model = "mlp"
steps = 1000000
checkpoint_every = 20
[base.images]
train_limit = 200
test_limit = 40
[base.record]
every = 10
[grid]
seed = [0, 1]
"""


def _children(process: int) -> list[int]:
    """Every process below one, from /proc; those already dead and waited for by nobody are left out."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, rest = entry.read_text().rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if state != "Z":
            parents[int(entry.parent.name)] = int(parent)
    found, fresh = [], [process]
    while fresh:
        fresh = [child for child, parent in parents.items() if parent in fresh]
        found += fresh
    return found


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _deaf(process: int) -> bool:
    """Whether a process blocks or ignores Ctrl-C; one that has ended meanwhile hears nothing."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return True
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigBlk:", "SigIgn:"))]
    return any(mask >> (signal.SIGINT - 1) & 1 for mask in masks)


def _wait(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_ctrl_c_while_a_worker_starts_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes while the process is being started, of which nothing is known yet."""
    calls: list[str] = []

    class Process:
        def __init__(self, target: object, args: tuple[object, ...]) -> None: ...
        def start(self) -> None:
            signal.raise_signal(signal.SIGINT)
            calls.append("started")

        def terminate(self) -> None:
            calls.append("ended")

        def join(self) -> None:
            calls.append("waited for")

    context = type("Context", (), {"Process": Process})
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda method: context)
    sweep = Sweep(expand({"model": "mlp", "steps": 1}, {"seed": [0, 1]}), tmp_path)
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_in_processes(sweep, sweep.points, 2, SilentMeter())
    finally:
        signal.signal(signal.SIGINT, heard)
    assert calls == ["started", "ended", "waited for"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find the workers")
@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=pytest.mark.slow) for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)]
)
def test_workers_end_with_their_sweep(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "grid.toml").write_text(GRID)
    command = [sys.executable, "-m", "neuralmechanics.cli", "sweep", "grid.toml", "--out", "runs"]
    process = subprocess.Popen(
        [*command, "--backend", "processes", "--workers", "2"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in the background of a shell
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        training = lambda: len(list(tmp_path.glob("runs/*/checkpoints/step-*.pt"))) >= 2  # noqa: E731
        assert _wait(lambda: training() or process.poll() is not None, LONG)
        assert process.poll() is None, process.communicate()[1]
        workers = _children(process.pid)
        assert len(workers) >= 2
        assert all(map(_deaf, workers))
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does: to the command and to its workers
        else:
            process.send_signal(how)
        out, err = process.communicate(timeout=LONG)
        assert _wait(lambda: not any(map(_alive, workers)), LONG), "workers outlived the sweep"
    finally:
        process.kill()
    assert out == ""
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert err == "neuralmechanics: error: interrupted\n"
    else:
        assert process.returncode == -how
