"""What a monitor says is kept with the run like a record: once, whole, and named where it is damaged."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neuralmechanics as nm
from neuralmechanics.monitor import CorruptShardError, MonitorWarning
from neuralmechanics.monitor.store import merging, run_store
from neuralmechanics.monitor.store.atomic import publish_json
from neuralmechanics.monitor.store.layout import NOTES_FILE, segments


def said_run(training: Any, store: Path) -> nm.Run:
    """A run of ten steps whose monitor was told two things that are no numbers, one of them twice."""
    optimizer = training.sgd()
    with nm.Monitor(training.model, optimizer, training.symmetries, store, every=5) as monitor:
        training.run(optimizer, range(3))
        for name in ("loss", "rate"):
            with pytest.warns(MonitorWarning):
                monitor.log(**{name: "high"})
        monitor.log(loss="high")
        training.run(optimizer, range(3, 10))
    return nm.open_run(store)


def test_each_warning_is_kept_once_with_its_step(training: Any, store: Path) -> None:
    run = said_run(training, store)
    assert [(note.step, note.message.split("=")[0]) for note in run.warnings] == [(3, "log(loss"), (3, "log(rate")]
    assert run.verify()["sound"].all()
    assert f"segment-0000/{NOTES_FILE}" in set(run.verify()["shard"])


def test_damaged_warnings_are_named(training: Any, store: Path) -> None:
    said_run(training, store)
    file = segments(store)[0] / NOTES_FILE
    whole = file.read_bytes()
    for bit in range(0, 8 * len(whole), 37):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        run = nm.open_run(store)
        if run.verify()["sound"].all():  # white space, or a letter of the same number
            assert len(run.warnings) == 2
            continue
        with pytest.raises(CorruptShardError, match=NOTES_FILE):
            _ = run.data
        assert run.warnings == []
        assert list(nm.open_run(store, skip_damaged=True).data["step"].values) == [0, 5, 10]


@pytest.mark.parametrize("spoken", [False, True])
def test_deleted_warnings_are_missed(training: Any, store: Path, spoken: bool) -> None:
    """A run of which the monitor said nothing, and one of which it said two things, know that the file was there."""
    if spoken:
        said_run(training, store)
    else:
        optimizer = training.sgd()
        with nm.Monitor(training.model, optimizer, training.symmetries, store, every=5):
            training.run(optimizer, range(10))
    assert nm.open_run(store).verify()["sound"].all()
    (segments(store)[0] / NOTES_FILE).unlink()
    run = nm.open_run(store)
    name = f"segment-0000/{NOTES_FILE}"
    assert list(run.verify().query("not sound")["shard"]) == [name]
    with pytest.raises(CorruptShardError, match=f"{name} is missing"):
        _ = run.data
    assert list(nm.open_run(store, skip_damaged=True).data["step"].values) == [0, 5, 10]


@pytest.mark.parametrize(
    "content", [{}, {"warnings": 3}, {"warnings": [3]}, {"warnings": [{"step": "x", "message": ""}]}]
)
def test_warnings_that_are_none_are_named(training: Any, store: Path, content: dict[str, Any]) -> None:
    said_run(training, store)
    publish_json(segments(store)[0] / NOTES_FILE, content)
    run = nm.open_run(store)
    assert run.warnings == []
    assert list(run.verify().query("not sound")["shard"]) == [f"segment-0000/{NOTES_FILE}"]


def test_a_disk_that_refuses_for_a_while_keeps_records_and_words(
    training: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records and notes are refused for ten steps, a state is asked for in between: each is there once, in order."""
    publish, write = run_store.publish_json, run_store.write_shard

    def refusing(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    optimizer = training.sgd()
    with nm.Monitor(training.model, optimizer, training.symmetries, store, every=5) as monitor:
        training.run(optimizer, range(7))
        monkeypatch.setattr(run_store, "write_shard", refusing)
        monkeypatch.setattr(run_store, "publish_json", refusing)
        with pytest.warns(MonitorWarning) as caught:
            go_on_refused(training, optimizer, monitor)
        assert monitor.recorded_step == 5
        monkeypatch.setattr(run_store, "write_shard", write)
        monkeypatch.setattr(run_store, "publish_json", publish)
        training.run(optimizer, range(17, 22))
    assert monitor.failure is None
    run = nm.open_run(store)
    assert list(run.data["step"].values) == [0, 5, 10, 13, 15, 20, 22]
    assert [note.message for note in run.warnings] == [str(warning.message) for warning in caught]
    assert len(run.warnings) == 2


def go_on_refused(training: Any, optimizer: Any, monitor: nm.Monitor) -> None:
    training.run(optimizer, range(7, 13))
    monitor.log(loss="high")
    assert [monitor.state_dict()["step"], monitor.state_dict()["step"]] == [13, 13]
    training.run(optimizer, range(13, 17))


def test_a_note_whose_publication_failed_is_not_written_twice(
    training: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, left = run_store.publish_json, [2]

    def published_then_refused(path: Path, content: dict[str, Any]) -> None:
        publish(path, content)
        if path.name == NOTES_FILE and left[0]:
            left[0] -= 1
            raise OSError(errno.EIO, "Input/output error")

    optimizer = training.sgd()
    with nm.Monitor(training.model, optimizer, training.symmetries, store, every=1) as monitor:
        training.run(optimizer, range(2))
        monkeypatch.setattr(run_store, "publish_json", published_then_refused)
        with pytest.warns(MonitorWarning):
            training.run(optimizer, range(2, 6), lambda step, _: monitor.log(loss="high") if step == 2 else None)
    run = nm.open_run(store)
    assert list(run.data["step"].values) == list(range(7))
    assert [note.message[:9] for note in run.warnings] == ["log(loss=", "the recor"]


def test_a_record_inside_a_merged_shard_is_found_and_its_laws_begin_anew(
    make: Callable[..., Any], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard of several records keeps the state of its last: at another of its records that is said, and kept."""
    monkeypatch.setattr(merging, "MERGED", 4)
    first = make()
    optimizer = first.sgd()
    saved: dict[str, Any] = {}
    with nm.Monitor(first.model, optimizer, first.symmetries, store, every=1):
        first.run(optimizer, range(2))
        saved = {name: value.clone() for name, value in first.model.state_dict().items()}
        first.run(optimizer, range(2, 10))
    second = make()
    second.model.load_state_dict(saved)
    optimizer = second.sgd()
    with (
        pytest.warns(MonitorWarning, match="continues at step 2, of which it no longer keeps the laws' state"),
        nm.Monitor(second.model, optimizer, second.symmetries, store, every=1, resume=True) as monitor,
    ):
        second.run(optimizer, range(2, 5))
    assert monitor.step == 5
    run = nm.open_run(store)
    assert list(run.data["step"].values) == list(range(6))
    assert [segment["continued"] for segment in run.segments] == [True, False]
    assert [note.step for note in run.warnings] == [2]


@pytest.mark.parametrize("stored", [True, False])
def test_a_step_that_is_given_holds_where_nothing_is_recorded_yet(training: Any, store: Path, stored: bool) -> None:
    optimizer = training.sgd()
    with nm.Monitor(
        training.model, optimizer, training.symmetries, store if stored else None, every=5, resume=12
    ) as monitor:
        training.run(optimizer, range(12, 16))
    assert np.array_equal(monitor.run.data["step"].values, [12, 15, 16])
    with pytest.raises(ValueError, match="resume=-1: give the step"):
        nm.Monitor(training.model, optimizer, training.symmetries, resume=-1)
