"""The record of several processes is the one of a single process, to 1e-12 in double precision."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.monitor.processes import networks
from tests.monitor.processes.group import together
from tests.monitor.processes.training import Job, alone, follow_all

import neuralmechanics as nm

EVERYWHERE = [(name, way) for name in ("vgg", "llama") for way in ("ddp", "fsdp", "tp")]
NAMES = ("charge", "predicted", "residual", "outside", "learning_rate", "momentum", "weight_decay", "active")


@cache
def symmetries(name: str) -> nm.Symmetries:
    return networks.symmetries(name)


def assert_equal(
    data: Mapping[str, Any], right: nm.Run, addends: str = "", *, cut: bool = False, digits: float = 1e-12
) -> None:
    """Every number of the record, relative to the size of its charge.

    `addends`: parameters of that name have gradients that no process knows the square of. `cut`: linear blocks lie in
    several processes, so that their charges are measured and no law is.
    """
    apart = np.array(right.symmetries.kinds) == "linear" if cut else np.zeros(right.symmetries.charges, dtype=bool)
    scale, found = right.data["scale"].values, right.symmetries
    unknown = np.array([bool(addends) and any(addends in p for p in f.parameters) for f in found.charged])
    unknown = np.repeat(unknown, [f.charges for f in found.charged])
    assert list(data["step"]) == list(right.data["step"].values)
    assert list(data["law"]) == list(right.data["law"].values)
    assert np.allclose(data["scale"], scale, rtol=digits)
    for name in NAMES:
        a, b = data[name], np.array(right.data[name].values)
        if name == "predicted":
            for law in ("modified_loss", "first_order"):
                b[list(data["law"]).index(law) if law in data["law"] else slice(0, 0), 1:, unknown] = np.nan
            b[..., apart] = np.nan
        if name == "residual":
            b[..., apart] = np.nan
        assert (np.isnan(a) == np.isnan(b)).all(), (name, np.argwhere(np.isnan(a) != np.isnan(b))[:5])
        error = np.nanmax(np.abs(a - b) / np.maximum(scale, 1e-3), initial=0.0)
        assert error < digits, (name, error)


def compare(processes: int, jobs: list[Job], folder: Path) -> None:
    """Run all jobs in one group of processes and each alone, and compare."""
    described = {job.name: symmetries(job.name).to_dict() for job in jobs}
    answers = together(processes, follow_all, folder, jobs, described)
    for number, job in enumerate(jobs):
        right = alone(job.name, symmetries(job.name), job.optimizer, job.backwards, **job.options)
        addends = "norm" if job.way == "tp" and job.name == "llama" else ""
        cut = job.name == "linear" or (job.name == "llama" and processes == 4 and job.way != "hsdp")
        for answer in answers:
            assert_equal(answer[number]["data"], right, addends, cut=cut)
            told = answer[number]["warnings"]
            told = [t for t in told if not (addends and "whose sum it is" in t)]
            assert any("lie in different processes" in t for t in told) == cut
            told = [t for t in told if "lie in different processes" not in t]
            assert told == [note.message for note in right.warnings]
        if job.store is not None:
            stored = nm.open_run(job.store)
            assert stored.verify()["sound"].all()
            assert_equal({n: v.values for n, v in stored.data.variables.items()}, right, addends, cut=cut)


def test_two_processes(tmp_path: Path) -> None:
    """FSDP2 and tensor parallel of a Llama, with everything that is measured at each step; DDP and FSDP2 of a VGG."""
    assert symmetries("llama").count()["linear"] > 0
    everything = {"residuals": True, "drives": True}
    jobs = [
        Job("llama", "fsdp", store=tmp_path / "fsdp", options=everything),
        Job("llama", "tp", store=tmp_path / "tp", options=everything),
        Job("vgg", "fsdp"),
        Job("llama", "ddp", store=tmp_path / "ddp"),
    ]
    compare(2, jobs, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["heavy ball", "plain", "nesterov", "strong", "adam"])
def test_two_processes_under_every_optimiser(optimizer: str, tmp_path: Path) -> None:
    compare(2, [Job(*network, optimizer, options={"residuals": True}) for network in EVERYWHERE], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["heavy ball", "adam"])
def test_accumulated_gradients_that_are_synchronised_once(optimizer: str, tmp_path: Path) -> None:
    """Two backward passes a step, the first under DDP's no_sync or what FSDP2 has in its place."""
    jobs = [Job(*network, optimizer, options={"residuals": True}, backwards=2) for network in EVERYWHERE]
    compare(2, jobs, tmp_path)


@pytest.mark.slow
def test_four_processes(tmp_path: Path) -> None:
    """FSDP2 over tensor parallel (pieces of pieces), and shards that are replicated."""
    jobs = [Job(name, way) for name in ("llama", "vgg") for way in ("fsdp+tp", "hsdp", "fsdp")]
    compare(4, jobs, tmp_path)


@pytest.mark.slow
def test_blocks_that_a_cut_divides_are_measured_and_no_law_is_claimed(tmp_path: Path) -> None:
    compare(2, [Job("linear", "fsdp", options={"residuals": True}), Job("linear", "fsdp", "adam")], tmp_path)
