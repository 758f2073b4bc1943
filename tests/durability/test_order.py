"""The order of publication, seen by a spy: write, fsync, replace, fsync of the folder, and only then acknowledged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.durability import faults, training
from torch import nn

from neuralmechanics.experiments.data import Position
from neuralmechanics.experiments.training.checkpoints import save_checkpoint
from neuralmechanics.experiments.training.runfolder import write_json
from neuralmechanics.monitor.store import atomic, merging


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> faults.Listen:
    listen = faults.Listen()
    faults.install(listen, monkeypatch)
    return listen


def published(name: str) -> list[str]:
    return [f"create {name}", f"write {name}", f"fsync {name}", f"replace {name}", f"fsync folder after {name}"]


def test_a_file_is_published_in_this_order(spy: faults.Listen, tmp_path: Path) -> None:
    atomic.publish(tmp_path / "a", b"content")
    assert spy.points == published("a")
    assert (tmp_path / "a").read_bytes() == b"content"


def test_every_new_folder_is_made_durable_up_to_the_first_that_existed(spy: faults.Listen, tmp_path: Path) -> None:
    atomic.make_folder(tmp_path / "a" / "b" / "c")
    assert spy.points == [p for name in "abc" for p in (f"mkdir {name}", f"fsync folder after {name}")]


def test_a_record_is_acknowledged_last(spy: faults.Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "MERGED", 4)
    training.session(tmp_path / "run", 0, 4, lambda step: spy.points.append(f"safe {step}"))
    mark = [n for n, point in enumerate(spy.points) if point.startswith("safe")]
    opening, first = spy.points[: mark[0]], spy.points[mark[0] + 1 : mark[1]]
    # A segment is a folder made whole under another name; its description counts what came before it.
    segment = [
        "mkdir segment",
        *published("start.safetensors"),
        *published("warnings.json"),
        *published("segment.json"),
        "replace segment",
        "fsync folder after segment",
        *published("tally.txt"),
    ]
    record = [*published("record"), "create tally.txt", "write tally.txt"]
    assert opening == [
        *("mkdir run", "fsync folder after run", "create .lock", "write .lock"),
        *published("tally.txt"),
        *published("run.json"),
        *("create .lock", "write .lock"),
        *segment,
        *record,
    ]
    assert first == record
    # The single shards go when the merged one is on the disk, and their record is acknowledged after that.
    assert spy.points[mark[2] + 1 : mark[3]] == [*record, *published("merged"), *4 * ["unlink record"]]
    assert spy.points[mark[3] + 1 :] == ["create tally.txt", "write tally.txt", "fsync tally.txt"]


def test_checkpoints_and_results_take_the_same_way(spy: faults.Listen, tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    save_checkpoint(tmp_path / "c", model, torch.optim.SGD(model.parameters(), lr=0.1), Position(7))
    once = list(dict.fromkeys(spy.points))  # torch writes an archive in many pieces
    assert once == ["mkdir c", "fsync folder after c", *published("step-000000007.pt")]
    spy.points.clear()
    write_json(tmp_path / "result.json", {"loss": 1.0})
    assert spy.points == published("result.json")
