"""One writer a run: the second is refused with the first one's number, and the lock dies with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tests.durability import training, writers

import neuralmechanics as nm
from neuralmechanics.monitor import RunBusyError
from neuralmechanics.monitor.store import lock
from neuralmechanics.monitor.store.run_store import RunStore


def test_a_second_writer_at_every_moment_of_the_first(tmp_path: Path) -> None:
    came = Counter(writers.interleavings(tmp_path))
    assert came["second refused"] > 40
    assert came["one after the other"] >= 3  # before the first has the lock, and between opening and writing


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.setattr(lock, "_PATIENCE", 0.05)
    store = RunStore.open(tmp_path / "run", training.content())
    store.lock()
    return store


def test_the_refusal_names_the_process(held: RunStore) -> None:
    with pytest.raises(
        RunBusyError, match=rf"being written by process {os.getpid()} \(this one\); wait until"
    ) as error:
        RunStore.open(held.path, training.content())
    assert "\n" not in str(error.value)
    held.close()
    RunStore.open(held.path, training.content())


def test_a_second_monitor_is_refused_before_its_training_begins(tmp_path: Path) -> None:
    model, _, _ = training.build()
    optimizer = training.torch.optim.SGD(model.parameters(), lr=0.1)
    first = nm.Monitor(model, optimizer, training.symmetries(), tmp_path / "run")
    second = nm.Monitor(model, optimizer, training.symmetries(), tmp_path / "run")
    with first:
        with pytest.raises(RunBusyError, match=f"process {os.getpid()}"):
            second.__enter__()
        with pytest.raises(RunBusyError):
            nm.Monitor(model, optimizer, training.symmetries(), tmp_path / "run")
    with second:
        pass
    assert list(nm.open_run(tmp_path / "run").data["step"].values) == [0]


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tests.durability import training\n"
        "from neuralmechanics.monitor.store.run_store import RunStore\n"
        "store = RunStore.open(Path(sys.argv[1]), training.content()); store.lock(); print('held', flush=True)\n"
        "time.sleep(600)"
    )
    path = tmp_path / "run"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunBusyError, match=f"process {process.pid}; wait"):
            training.session(path, 0, 1)
        process.send_signal(signal.SIGKILL)
    training.session(path, 0, 3)
    assert len(training.require_true(nm.open_run(path))) == 3


def test_a_fork_neither_writes_nor_keeps_the_lock(held: RunStore) -> None:
    """A worker that outlived its parent would else hold the run; one that wrote would replace the parent's records."""
    held.begin_segment({"start_step": 0}, {"charge": np.ones(9), "scale": np.ones(9)})
    held.append(0, training.record(0))
    reader, writer = os.pipe()
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(there)
        try:
            held.append(1, training.record(1))
        except RunBusyError as error:
            os.write(writer, str(error).encode())
        finally:
            os.read(here, 1)  # lives until its parent closes the other end, or ends
            os._exit(0)
    os.close(writer)
    try:
        said = os.read(reader, 4096).decode()
        assert f"is written by process {os.getpid()}, of which this process ({child}) is a fork" in said
        held.append(1, training.record(1))
        held.close()
        training.session(held.path, 2, 1)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)  # the child lives, and holds nothing
    finally:
        os.close(there)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(here)
    assert list(training.require_true(nm.open_run(held.path))) == [0, 1, 2]


def test_a_lock_file_that_is_taken_away_stops_the_writer(held: RunStore) -> None:
    held.begin_segment({"start_step": 0}, {"charge": np.ones(9), "scale": np.ones(9)})
    held.append(0, training.record(0))
    (held.path / ".lock").unlink()
    with pytest.raises(RunBusyError, match="was removed or replaced"):
        held.append(1, training.record(1))
    (held.path / ".lock").touch()
    with pytest.raises(RunBusyError, match="was removed or replaced"):
        held.append(1, training.record(1))


def test_another_training_is_not_glued_on(tmp_path: Path) -> None:
    """A run that is there is refused without a word of where it goes on, and as before; so are other weights."""
    torch = training.torch

    def script(seed: int, rate: float, **options: bool | int) -> None:
        model, x, y = training.build()
        torch.manual_seed(seed)
        torch.nn.init.normal_(model[0].weight)
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        with nm.Monitor(model, optimizer, training.symmetries(), tmp_path / "run", every=1, strict=True, **options):
            for _ in range(5):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()

    script(0, 0.1)
    before = nm.open_run(tmp_path / "run").data
    for seed, rate in ((1, 0.1), (0, 0.2), (0, 0.1)):
        with pytest.raises(ValueError, match="holds a run already; give another folder"):
            script(seed, rate)
    with pytest.raises(ValueError, match=r"are of no record in .*, whose last step is 5"):
        script(1, 0.1, resume=True)
    assert nm.open_run(tmp_path / "run").data.identical(before)
    script(0, 0.1, resume=0)
    assert np.array_equal(nm.open_run(tmp_path / "run").data["charge"].values, before["charge"].values)
    script(1, 0.1, resume=5)
    run = nm.open_run(tmp_path / "run")
    assert list(run.data["step"].values) == list(range(11))
    assert [segment["continued"] for segment in run.segments] == [True, True, False]
