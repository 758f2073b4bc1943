"""Nothing is communicated between records; nobody waits for a process that died, failed or left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.monitor.processes import networks
from tests.monitor.processes.group import together
from tests.monitor.processes.training import EVERY, STEPS, alone
from tests.monitor.processes.trouble import all_resumed, count, resumed, trouble

import neuralmechanics as nm


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return networks.symmetries("llama").to_dict()


@pytest.mark.parametrize(
    ("name", "way", "optimizer"),
    [
        ("llama", "fsdp", "heavy ball"),
        slow("llama", "tp", "heavy ball"),
        slow("llama", "tp", "nesterov"),
        slow("llama", "tp", "adam"),
        slow("llama", "fsdp", "adam"),
        slow("llama", "ddp", "adam"),
        slow("vgg", "ddp", "heavy ball"),
        slow("vgg", "fsdp", "heavy ball"),
        slow("vgg", "tp", "adam"),
    ],
)
def test_nothing_is_communicated_between_records(name: str, way: str, optimizer: str, tmp_path: Path) -> None:
    """A record is taken from the end of its step to the beginning of the next; training is the same to the bit."""
    records = {1, *(n for s in range(EVERY, STEPS + 1, EVERY) for n in (s, s + 1)), STEPS + 1}
    for answer in together(2, count, tmp_path, name, way, networks.symmetries(name).to_dict(), optimizer):
        assert set(answer["messages"]) <= records | {0}
        # The norm's eps of the VGG is seen, and then the sizes of gradients and parameters are asked for.
        assert answer["messages"].get(EVERY + 1, 0) <= (12 if name == "vgg" else 8)
        assert bool(answer["messages"]) == (way != "ddp")  # each replica follows the whole model by itself
        for number, (without, with_monitor) in enumerate(zip(answer["False"], answer["True"], strict=True), start=1):
            assert sum(without.values()) > 0 or way == "ddp"  # whose collectives do not pass the dispatcher
            assert with_monitor == without, number
        for parameter, weights in answer["weights False"].items():
            assert (weights == answer["weights True"][parameter]).all(), parameter


@pytest.mark.parametrize("kind", ["dies", slow("fails"), slow("waits"), slow("raises")])
def test_nobody_waits_for_a_process_in_trouble(kind: str, described: dict[str, Any], tmp_path: Path) -> None:
    """Who would wait has an hour to do so, and four minutes to answer."""
    answers = together(2, trouble, tmp_path, kind, described, tmp_path / "run", gone=1 if kind == "dies" else None)
    run = nm.open_run(tmp_path / "run")
    assert list(run.data["step"].values) == ([0, EVERY] if kind == "raises" else [0])
    assert run.verify()["sound"].all()
    first, second = answers
    if kind == "dies":
        assert first["failed"]  # of the training itself, whose own collectives fail
    if kind in ("fails", "waits"):
        assert len(first["losses"]) == len(second["losses"]) == STEPS
        assert first["failed"] == second["failed"] == ""
        assert sum("the monitor stopped at step" in text for text in first["said"]) == 1
        assert first["monitor"] != "None"
        assert second["monitor"] != "None"
    if kind == "fails":
        assert "this process's monitor fails" in second["monitor"]
        assert set(first["state"]) == set(second["state"]) == {"step", "failure"}
    if kind == "raises":
        assert "one process stops" in second["failed"]


@pytest.mark.parametrize("how", ["state", slow("store"), slow("step")])
def test_resumed_over_two_processes_is_as_uninterrupted(how: str, described: dict[str, Any], tmp_path: Path) -> None:
    right = alone("llama", nm.Symmetries.from_dict(described), "heavy ball", residuals=True).data
    given = "llama", "fsdp", "heavy ball", described, tmp_path / "run", how
    for data in together(2, resumed, tmp_path, *given):
        assert_uninterrupted(data, right)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["heavy ball", "adam"])
def test_every_way_is_resumed_as_uninterrupted(optimizer: str, tmp_path: Path) -> None:
    ways = [(name, way) for name in ("vgg", "llama") for way in ("ddp", "fsdp", "tp")]
    found = {name: networks.symmetries(name) for name in ("vgg", "llama")}
    described = {name: each.to_dict() for name, each in found.items()}
    for answer in together(2, all_resumed, tmp_path, ways, optimizer, described, tmp_path):
        for (name, _), data in zip(ways, answer, strict=True):
            assert_uninterrupted(data, alone(name, found[name], optimizer, residuals=True).data)


def assert_uninterrupted(data: dict[str, Any], right: Any) -> None:
    """Every number at the records that an uninterrupted training has; step 7 was recorded for its checkpoint."""
    assert list(data["step"]) == [0, 4, 7, 8, 9]
    chosen = [list(data["step"]).index(s) for s in right["step"].values]
    for name in ("charge", "predicted", "residual"):
        a, b = data[name], right[name].values
        a = a[:, chosen] if name == "predicted" else a[chosen]
        assert np.nanmax(np.abs(a - b) / np.maximum(right["scale"].values, 1e-3)) < 1e-12, name
        assert name == "predicted" or (np.isnan(a) == np.isnan(b)).all(), name
