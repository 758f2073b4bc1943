"""What a sweep will cost: steps, memory by hand, records as they were written; and where its trainings run."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from tests.experiments.sweep.workers_in_threads import context

from neuralmechanics.experiments import OptimizerConfig, RecordConfig, TrainConfig, train
from neuralmechanics.experiments.paper import paper_sweep
from neuralmechanics.experiments.seeds import seeded
from neuralmechanics.experiments.sweep import estimate
from neuralmechanics.experiments.sweep.devices import default_workers, device_pool
from neuralmechanics.experiments.sweep.estimate import Cost, cost_of, memory_of, totals
from neuralmechanics.experiments.sweep.processes import run_in_processes
from neuralmechanics.progress import SilentMeter


def test_memory_is_parameters_and_what_the_backward_pass_reads():
    """Two hidden layers of 64 on 64 inputs, by hand; no more is kept than inputs, activations and their labels."""
    config = TrainConfig(model="mlp", data="digits", batch_size=100)
    parameters = 64 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10
    # Inputs of each of three maps, ReLU's own output (shared with the next input), log-probabilities, label.
    each = 4 * (64 + 64 + 64 + 10) + 8
    memory = memory_of(config) - estimate._PROCESS
    assert 2 * 4 * parameters + 100 * each == pytest.approx(memory, rel=0.02)
    twice = memory_of(TrainConfig(model="mlp", optimizer=OptimizerConfig(momentum=0.9), batch_size=100))
    assert twice - estimate._PROCESS - memory == 4 * parameters


def test_the_bytes_of_records_are_those_of_a_training(tmp_path):
    config = TrainConfig(model="vgg-small-bn", steps=60, batch_size=16, record=RecordConfig(every=2))
    cost = cost_of(config, "cpu")
    train(config, tmp_path / "run")
    written = sum(path.stat().st_size for path in (tmp_path / "run").glob("segment-*/records-*"))
    checkpoint = sum(path.stat().st_size for path in (tmp_path / "run").glob("checkpoints/*"))
    assert cost.steps == 60
    # None of these is merged with others; the laws' state, which the first records lack, makes the last ones larger.
    assert written / cost.records == pytest.approx(1.0, abs=0.05)
    assert cost.checkpoints == pytest.approx(checkpoint, rel=0.1)
    assert 0 < cost.seconds < 60
    hours, disk, memory = totals([cost] * 4, workers=2)
    assert hours == pytest.approx(4 * 60 * cost.seconds / 3600 / 2)
    assert (disk, memory) == (4 * (cost.records + cost.checkpoints), 2 * cost.memory)


@pytest.mark.parametrize("precision", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_the_bytes_of_records_that_are_merged_are_those_of_a_training_within_a_sixth(tmp_path, precision):
    config = TrainConfig(model="mlp", steps=130, batch_size=16, precision=precision, record=RecordConfig(every=1))
    train(config, tmp_path / "run")
    written = sum(path.stat().st_size for path in (tmp_path / "run").glob("segment-*/records-*"))
    assert written / cost_of(config, "cpu").records == pytest.approx(1.0, abs=1 / 6)


def test_published_data_is_known_without_being_here(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    config = paper_sweep("fig5", "paper", tmp_path).points[0].config
    assert estimate._data_of(config) == ((3, 64, 64), 200, 100_000)
    kinds = {estimate._kind(point.config) for point in paper_sweep(["fig1", "fig5"], "paper", tmp_path).points}
    assert len(kinds) == 2


def test_trainings_that_figures_share_are_one():
    sweep = paper_sweep(["fig1", "fig5", "performance", "sums", "momentum"], "paper", "runs")
    assert len(sweep.points) == 8 + 48
    assert len({point.name for point in sweep.points}) == 56
    shared = {point.name for point in paper_sweep("fig1", "paper", "runs").points}
    assert shared <= {point.name for point in paper_sweep("fig5", "paper", "runs").points}


def test_devices_by_name(monkeypatch):
    assert device_pool("cpu") == ["cpu"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_pool(None) == []
    with pytest.raises(ValueError, match="device 'cuda' is not available: there are 0 CUDA devices; use --device cpu"):
        device_pool("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert device_pool(None) == device_pool("cuda") == ["cuda:0", "cuda:1", "cuda:2"]
    assert device_pool("cuda:2") == ["cuda:2"]
    with pytest.raises(ValueError, match="'cuda:3' is not available: there are 3"):
        device_pool("cuda:3")


def test_as_many_trainings_as_fit_the_cards(monkeypatch):
    config = TrainConfig(model="mlp")
    assert default_workers([config], ["cpu"]) == default_workers([], []) == torch.multiprocessing.cpu_count()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 << 30 if device.index else 2 << 30, 80 << 30))
    monkeypatch.setattr(estimate, "memory_of", lambda config: 2 << 30)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    # 9 GiB of 2.6 each, and a small card on which one may be tried.
    assert default_workers([config], ["cuda:0", "cuda:1"]) == 3 + 1
    assert default_workers([TrainConfig(model="mlp", device="cpu")], []) == 16


def test_each_process_takes_the_device_that_fewest_use(monkeypatch, tmp_path):
    from neuralmechanics.experiments.sweep import processes

    sweep = paper_sweep("fig5", "smoke", tmp_path)
    assert len(sweep.points) == 4
    monkeypatch.setattr(processes, "is_settled", lambda folder: True)
    for devices, wanted in ((["cuda:0", "cuda:1"], ["cuda:0", "cuda:1"] * 2), ([], [None] * 4)):
        used: list[str | None] = []
        meeting = threading.Barrier(4)  # all four at a time, so that each has a process of its own
        threads = context(lambda config, folder, device, meeting=meeting: meeting.wait(), used)
        monkeypatch.setattr(processes.multiprocessing, "get_context", lambda method, threads=threads: threads)
        run_in_processes(sweep, sweep.points, 4, SilentMeter(), devices)
        assert used == wanted


def test_a_seed_moves_no_stream_of_any_device(monkeypatch):
    """The CPU's goes on as before; those of accelerators in use are put back, and only the wanted one is seeded."""
    states = ["state of 0", "state of 1"]
    calls: list[object] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(states))
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda given: calls.append(("put back", given)))
    for name in ("manual_seed", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, lambda seed, name=name: calls.append(name))
    before = torch.get_rng_state()
    with seeded(3, "weights"):
        first = torch.rand(4)
    assert calls == [("put back", states)]
    assert torch.equal(torch.get_rng_state(), before)
    with seeded(3, "weights"):
        assert torch.equal(torch.rand(4), first)
    assert calls == [("put back", states)] * 2


def test_totals_are_shared_among_as_many_as_there_is_work_for():
    """Two trainings keep two workers busy, and of more workers two; the largest ones are in memory at once."""
    costs = [Cost(3600, 1.0, 10, 5, 7), Cost(3600, 3.0, 20, 5, 2), Cost(0, 1.0, 1, 1, 4)]
    assert totals(costs) == (4.0, 42, 7)
    assert totals(costs, workers=2) == (2.0, 42, 11)
    assert totals(costs, workers=8) == (pytest.approx(4 / 3), 42, 13)
    assert totals(costs, workers=0) == (4.0, 42, 7)


def test_memory_is_of_the_numbers_that_are_kept():
    """Parameters, gradients and momentum; what a forward pass keeps is doubled in double precision, halved in half."""
    config = TrainConfig(model="mlp")
    shape, classes, _ = estimate._data_of(config)
    plain, each = estimate._memory(estimate._kind(config), shape, classes)
    still = replace(config, optimizer=replace(config.optimizer, momentum=0.0))
    heavy = replace(config, optimizer=replace(config.optimizer, momentum=0.9))
    fixed = {c: estimate._memory(estimate._kind(c), shape, classes)[0] for c in (still, heavy)}
    assert plain in fixed.values()
    assert 2 * fixed[heavy] == 3 * fixed[still]
    for precision, width in (("float64", 2.0), ("bfloat16", 0.5)):
        other = estimate._memory(estimate._kind(replace(config, precision=precision)), shape, classes)
        assert other == (plain * max(1.0, width), int(2 * each * width) // 2)
