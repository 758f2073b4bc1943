"""A monitor that fails says so once and lets the training go on; bad input is refused before it begins."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import neuralmechanics as nm
from neuralmechanics.monitor import MonitorWarning
from neuralmechanics.monitor.store.run_store import RunStore


def full_disk_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    append = RunStore.append
    calls = iter(range(1000))

    def failing(self: RunStore, number: int, arrays: Any) -> None:
        if next(calls) >= count:
            raise OSError(28, "No space left on device")
        append(self, number, arrays)

    monkeypatch.setattr(RunStore, "append", failing)


def test_a_disk_that_stays_full_is_said_and_training_goes_on(
    make: Callable[..., Any], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = make()
    expected = bare.run(bare.sgd(momentum=0.9), range(30))
    full_disk_after(3, monkeypatch)
    training = make()
    optimizer = training.sgd(momentum=0.9)
    with (
        pytest.warns(MonitorWarning) as caught,
        nm.Monitor(training.model, optimizer, training.symmetries, store, every=5) as monitor,
    ):
        losses = training.run(optimizer, range(30), lambda _, loss: monitor.log(loss=loss))
    assert losses == expected
    assert len(caught) == 2
    first, last = (str(warning.message) for warning in caught)
    assert "the record of step 15 could not be written" in first
    assert re.search(r"stopped at step 30 .*No space left.* readable up to step 10", last)
    assert isinstance(monitor.failure, OSError)
    assert monitor.recorded_step == 10
    run = nm.open_run(store)
    assert list(run.data["step"].values) == [0, 5, 10]
    assert [note.message for note in run.warnings] == [first, last]


def test_strict_raises(training: Any, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_disk_after(1, monkeypatch)
    optimizer = training.sgd()
    with (
        pytest.raises(OSError, match="No space left"),
        nm.Monitor(training.model, optimizer, training.symmetries, store, every=5, strict=True),
    ):
        training.run(optimizer, range(30))


def test_a_failure_does_not_stop_training_where_warnings_are_errors(
    training: Any, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full_disk_after(1, monkeypatch)
    optimizer = training.sgd()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with nm.Monitor(training.model, optimizer, training.symmetries, store, every=5):
            training.run(optimizer, range(30))
    assert "MonitorWarning: the record of step 5 could not be written" in capsys.readouterr().err


def interrupted(training: Any, optimizer: torch.optim.Optimizer) -> None:
    training.run(optimizer, range(13))
    raise KeyboardInterrupt


def test_an_error_of_the_training_passes_and_the_last_record_is_kept(training: Any, store: Path) -> None:
    optimizer = training.sgd()
    with (
        pytest.raises(KeyboardInterrupt),
        nm.Monitor(training.model, optimizer, training.symmetries, store, strict=True),
    ):
        interrupted(training, optimizer)
    assert list(nm.open_run(store).data["step"].values) == [0, 10, 13]


def test_bad_input_is_refused_in_one_line(training: Any, make: Callable[..., Any]) -> None:
    other = make("convnet")
    optimizer = training.sgd()
    cases: list[tuple[str, Callable[[], Any]]] = [
        (
            "every is 0, expected a whole number",
            lambda: nm.Monitor(training.model, optimizer, training.symmetries, every=0),
        ),
        ("no law named 'magic'", lambda: nm.Monitor(training.model, optimizer, training.symmetries, laws=["magic"])),
        ("has no parameter", lambda: nm.Monitor(other.model, other.sgd(), training.symmetries)),
        ("hold no charge", lambda: nm.Monitor(training.model, optimizer, nm.Symmetries(()))),
    ]
    for match, call in cases:
        with pytest.raises(ValueError, match=match) as error:
            call()
        assert "\n" not in str(error.value)


def test_scalars(training: Any, store: Path) -> None:
    optimizer = training.sgd()
    with nm.Monitor(training.model, optimizer, training.symmetries, store, every=2, strict=True) as monitor:
        for step in range(6):
            training.run(optimizer, range(step, step + 1))
            monitor.log(loss=torch.tensor(float(step)), learning_rate=0.5)
            if step == 3:
                monitor.log(accuracy=1)
        with pytest.raises(ValueError, match="takes one number"):
            monitor.log(loss=torch.zeros(2))
    table = nm.open_run(store).scalars
    assert list(table["loss"][1:]) == [1.0, 3.0, 5.0]
    assert list(table["scalar_learning_rate"][1:]) == [0.5] * 3
    assert table["accuracy"].to_list()[2] == 1.0
    assert table["accuracy"].isna().sum() == 3


def test_a_run_without_scalars_has_a_table_without_columns(training: Any, store: Path) -> None:
    optimizer = training.sgd()
    with nm.Monitor(training.model, optimizer, training.symmetries, store, every=2):
        training.run(optimizer, range(4))
    table = nm.open_run(store).scalars
    assert (list(table.index), list(table.columns)) == ([0, 2, 4], [])


def test_a_monitor_is_entered_once(training: Any) -> None:
    optimizer = training.sgd()
    monitor = nm.Monitor(training.model, optimizer, training.symmetries)
    with monitor:
        pass
    with pytest.raises(RuntimeError, match="make a new Monitor"):
        monitor.__enter__()


def test_compiled_names_are_understood(training: Any) -> None:
    class Wrapper(torch.nn.Module):
        def __init__(self, module: torch.nn.Module) -> None:
            super().__init__()
            self.module = module

    wrapped = Wrapper(training.model)
    with nm.Monitor(wrapped, training.sgd(), training.symmetries, strict=True) as monitor:
        pass
    assert list(monitor.run.data["step"].values) == [0]
