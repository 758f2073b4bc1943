"""Sweeps: the grid, what is already there, workers that die, and the same numbers as one by one."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from tests.experiments.sweep.workers_in_threads import DiedError, context

from neuralmechanics.experiments import train
from neuralmechanics.experiments.config import RESULT
from neuralmechanics.experiments.paper import PAPER_FIGURES, paper_sweep
from neuralmechanics.experiments.sweep import expand, gather, load_sweep, processes, run_sweep, running
from neuralmechanics.experiments.sweep.grid import Sweep
from neuralmechanics.experiments.sweep.processes import run_in_processes
from neuralmechanics.experiments.training.checkpoints import last_checkpoint
from neuralmechanics.experiments.training.runfolder import CHECKPOINTS
from neuralmechanics.progress import SilentMeter

BASE = {
    "model": "mlp",
    "steps": 12,
    "batch_size": 32,
    "images": {"train_limit": 200, "test_limit": 40},
    "record": {"every": 4},
    "checkpoint_every": 4,
}


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = last_checkpoint(folder / CHECKPOINTS)
    assert checkpoint is not None
    weights: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True)["model"]
    return weights


def assert_same_runs(first: Sweep, second: Sweep) -> None:
    assert len(first.points) == len(second.points)
    for a, b in zip(first.points, second.points, strict=True):
        ours, theirs = final_weights(first.folder(a)), final_weights(second.folder(b))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_grids_expand_from_toml(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(
        'out = "somewhere"\n[base]\nmodel = "mlp"\n[grid]\nseed = [0, 1, 2]\noptimizer.weight_decay = [0, 1e-3]\n'
        "[grid.schedule]\nmilestones = [[1], [1, 2]]\nname = ['drops']\n"
    )
    sweep = load_sweep(path)
    assert len(sweep.points) == 12
    assert sweep.out == Path("somewhere")
    assert sweep.points[-1].config.schedule.milestones == (1.0, 2.0)
    assert len({point.name for point in sweep.points}) == 12
    # A point's name does not depend on the grid around it.
    alone = expand({"model": "mlp"}, {key: [value] for key, value in sweep.points[5].values.items()})
    assert alone[0].name == sweep.points[5].name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gird]\nseed = [1]\n", "unknown configuration key 'gird'; the nearest known key is 'grid'"),
        ("[base]\n", r"has no \[grid\]"),
        ("[grid]\nseed = 1\n", "grid.seed must be a list"),
        ("[grid]\nsed = [1]\n", "unknown configuration key 'sed'; the nearest known key is 'seed'"),
        ("[grid]\nseed = [1, 1]\n", "the same training twice"),
        ("[grid]\noptimizer.learning_rate = [-1.0]\n", "optimizer.learning_rate must be a positive number"),
    ],
)
def test_bad_grids_are_named(tmp_path, text, message):
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_sweep(tmp_path / "grid.toml")


def test_processes_train_what_is_missing_and_gather_it(tmp_path, one_thread):
    points = expand(BASE, {"optimizer.learning_rate": [1e9, 0.1]})
    sweep = Sweep(points, tmp_path / "sweep")
    # One process for both: what the first left behind changes nothing for the second.
    table = run_sweep(sweep, workers=1, backend="processes")
    assert table["optimizer.learning_rate"].tolist() == [1e9, 0.1]
    assert table["status"][0].startswith("FloatingPointError: the loss is")
    assert table["status"][1] == "finished"
    assert 0 <= table["error:exact"][1] < 1e-4
    alone = train(points[1].config, tmp_path / "alone")
    assert table["top1"][1] == alone.performance.top1
    assert table["loss"][1] == alone.performance.loss
    errors = pd.read_csv(tmp_path / "sweep" / "errors.csv")
    assert {"optimizer.learning_rate", "family", "law", "max_error"} <= set(errors.columns)
    # Finished runs are not trained again, and a table can be gathered anew.
    before = (sweep.folder(points[1]) / "result.json").stat().st_mtime_ns
    run_sweep(Sweep(points[1:], str(tmp_path / "sweep")), backend="processes")
    assert (sweep.folder(points[1]) / "result.json").stat().st_mtime_ns == before


class Counted(SilentMeter):
    def __init__(self) -> None:
        self.done = 0

    def advance(self, amount: int = 1) -> None:
        self.done += amount


def run_in_threads(monkeypatch, sweep: Sweep, workers: int, point) -> tuple[list[str | None], int]:
    """Runs the sweep with threads for workers; the devices of those that were started, and how far the meter came."""
    started: list[str | None] = []
    threads = context(point, started)
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda method: threads)
    meter = Counted()
    run_in_processes(sweep, sweep.points, workers, meter)
    return started, meter.done


def finish(config, folder: str, device: str | None) -> None:
    Path(folder).mkdir(parents=True)
    (Path(folder) / RESULT).write_text("{}")


@pytest.mark.parametrize("workers", [1, 2, 3, 50])
def test_a_process_trains_one_point_after_another(workers, tmp_path, monkeypatch):
    sweep = Sweep(expand(BASE, {"seed": list(range(20))}), tmp_path)
    meeting = threading.Barrier(min(workers, 20))
    first: set[int] = set()

    def point(config, folder: str, device: str | None) -> None:
        if threading.get_ident() not in first:
            first.add(threading.get_ident())
            meeting.wait()  # as many at a time as there are workers
        finish(config, folder, device)

    started, done = run_in_threads(monkeypatch, sweep, workers, point)
    assert (len(started), done) == (min(workers, 20), 20)
    assert all((sweep.folder(point) / RESULT).is_file() for point in sweep.points)


def test_a_point_that_kills_its_worker_is_reported_and_the_others_go_on(tmp_path, monkeypatch):
    sweep = Sweep(expand(BASE, {"seed": [0, 1, 2, 3, 4]}), tmp_path)
    tried: list[int] = []

    def point(config, folder: str, device: str | None) -> None:
        tried.append(config["seed"])
        if config["seed"] == 1 or (config["seed"] == 3 and tried.count(3) < 3):
            raise DiedError
        finish(config, folder, device)

    started, done = run_in_threads(monkeypatch, sweep, 2, point)
    assert {seed: tried.count(seed) for seed in range(5)} == {0: 1, 1: 4, 2: 1, 3: 3, 4: 1}
    assert done == 5
    assert len(started) >= 6  # each of six deaths was a process of its own
    status = gather(sweep)["status"].tolist()
    assert status[1] == "ChildProcessError: its process died 4 times (last status -9)"
    assert [each for place, each in enumerate(status) if place != 1] == ["finished"] * 4


def test_a_worker_that_dies_after_its_point_has_done_it(tmp_path, monkeypatch):
    sweep = Sweep(expand(BASE, {"seed": [0, 1, 2]}), tmp_path)

    def point(config, folder: str, device: str | None) -> None:
        finish(config, folder, device)
        raise DiedError

    started, done = run_in_threads(monkeypatch, sweep, 1, point)
    assert (len(started), done) == (3, 3)


KILLER = """
import os, signal
from torch import nn

def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))

def deadly():
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_point_that_is_killed_by_the_system_is_reported_and_the_others_go_on(tmp_path, monkeypatch):
    (tmp_path / "killer_of_workers.py").write_text(KILLER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "ATTEMPTS", 2)
    models = [f"killer_of_workers:{name}" for name in ("small", "deadly")]
    sweep = Sweep(expand(BASE, {"model": models, "seed": [0, 1]}), tmp_path / "sweep")
    table = run_sweep(sweep, workers=1, backend="processes")
    died = "ChildProcessError: its process died 2 times (last status -9)"
    assert table["status"].tolist() == ["finished", "finished", died, died]


def ray_workers() -> list[int]:
    """Process ids of Ray workers that are training right now (Ray titles them with their task)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if entry.read_bytes().startswith(b"ray::train_point"):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_twelve_runs_on_ray_with_a_killed_worker_equal_the_same_runs_one_by_one(tmp_path, one_thread):
    pytest.importorskip("ray")
    base = BASE | {"steps": 400, "checkpoint_every": 20}
    grid = {"optimizer.momentum": [0.0, 0.9], "optimizer.weight_decay": [0.0, 1e-3], "seed": [0, 1, 2]}
    points = expand(base, grid)
    assert len(points) == 12
    sweep, alone = Sweep(points, tmp_path / "ray"), Sweep(points, tmp_path / "alone")
    killed: list[int] = []

    def kill_one() -> None:
        deadline = time.monotonic() + 240
        while not killed and time.monotonic() < deadline:
            midway = list(sweep.out.glob("*/checkpoints/step-*[24680].pt"))
            for pid in ray_workers() if midway else ():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one)
    killer.start()
    table = run_sweep(sweep, workers=2, backend="ray")
    killer.join()
    assert len(killed) == 1
    assert table["status"].tolist() == ["finished"] * 12
    for point in points:
        train(point.config, alone.folder(point))
    assert_same_runs(sweep, alone)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("backend", "died"),
    [("ray", "{}"), ("processes", "ChildProcessError: its process died 2 times ({})")],
)
def test_what_the_disk_refuses_a_run_is_its_failure_alone(backend, died, tmp_path, monkeypatch, one_thread):
    """A module of one's own that says so in a worker amid its training."""
    pytest.importorskip(backend) if backend == "ray" else monkeypatch.setattr(processes, "ATTEMPTS", 2)
    (tmp_path / "filling.py").write_text(
        "import os\nfrom torch import nn\n\nCALLS = []\n\n\n"
        "class Filling(nn.Linear):\n    def forward(self, x):\n        CALLS.append(1)\n"
        f"        if len(CALLS) > 30 and os.getpid() != {os.getpid()}:\n"
        "            raise OSError(28, 'No space left on device')\n        return super().forward(x)\n\n\n"
        "def model(**options):\n    return nn.Sequential(nn.Flatten(), Filling(64, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    sweep = Sweep(expand(BASE | {"steps": 60}, {"model": ["filling:model", BASE["model"]]}), tmp_path / "ray")
    table = run_sweep(sweep, workers=2, backend=backend)
    assert table["status"].tolist() == [died.format("OSError: [Errno 28] No space left on device"), "finished"]


@pytest.mark.parametrize("figure", PAPER_FIGURES)
def test_the_published_size_without_its_data_ends_before_any_training(figure, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nothing"))
    monkeypatch.delenv("NEURALMECHANICS_DATA", raising=False)
    sweep = paper_sweep(figure, "paper", tmp_path / "runs")
    with pytest.raises(ValueError, match=r"is not here: put .* as images\.root .* run: pip") as error:
        run_sweep(sweep)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_a_ray_that_does_not_start_leaves_the_work_to_processes(tmp_path, monkeypatch):
    """Where it was not asked for by name; else it is said in one line."""
    ray = pytest.importorskip("ray")

    def late(**options: object) -> None:
        raise Exception("The current node timed out during startup.\nMore of it.")

    trained: list[str] = []

    def handed_over(sweep: Sweep, points: list, *others: object) -> None:
        trained.extend(point.name for point in points)

    monkeypatch.setattr(ray, "init", late)
    monkeypatch.setattr(running, "run_in_processes", handed_over)
    sweep = Sweep(expand(BASE, {"seed": [0, 1]}), tmp_path / "grid")
    with pytest.raises(ValueError, match=r"^Ray does not start here: The current node timed out during startup\. Use"):
        run_sweep(sweep, workers=1, backend="ray")
    assert not trained
    table = run_sweep(sweep, workers=1)
    assert trained == [point.name for point in sweep.points]
    assert len(table) == 2
