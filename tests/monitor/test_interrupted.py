"""A record belongs to a step that was seen to end: whatever interrupts a step, no record of half of it is written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neuralmechanics as nm
from neuralmechanics.monitor import MonitorWarning


def exact_error(store: Path) -> float:
    errors = nm.open_run(store).errors()
    return float(errors.loc[errors["law"] == "exact", "max_error"].max())


class Interrupt:
    """Ctrl-C at the n-th call."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, *arguments: Any) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("hook", ["register_step_pre_hook", "register_step_post_hook"])
@pytest.mark.parametrize("before_monitor", [True, False])
@pytest.mark.parametrize("step", [1, 10, 17])
def test_an_interrupt_in_a_hook(training: Any, store: Path, hook: str, before_monitor: bool, step: int) -> None:
    """A hook of the user's own stands for a signal that arrives there: before the update, or after it."""
    optimizer = training.sgd(momentum=0.9, lr=0.5)
    interrupt = Interrupt(step)
    monitor = nm.Monitor(training.model, optimizer, training.symmetries, store, every=5)
    if before_monitor:
        getattr(optimizer, hook)(interrupt)
    # The monitor's hooks are the first after a step, and the last before it from the step after a registration on: it
    # has seen the end of a step whose other hooks are interrupted, and not yet its beginning.
    ended = step if hook == "register_step_post_hook" else step - 1
    between = hook == "register_step_pre_hook" and not before_monitor and step == 1
    said = pytest.warns(MonitorWarning, match=f"step {step} was interrupted") if between else nullcontext()
    with said, pytest.raises(KeyboardInterrupt):
        record_until(training, optimizer, monitor, interrupt, hook, before_monitor)
    steps = nm.open_run(store).data["step"].values
    last = 0 if between else ended
    assert list(steps) == sorted({*range(0, last + 1, 5), last})
    if len(steps) > 1:
        assert exact_error(store) < 1e-12
    assert monitor.failure is None


def record_until(
    training: Any, optimizer: Any, monitor: nm.Monitor, interrupt: Interrupt, hook: str, before: bool
) -> None:
    with monitor:
        if not before:
            getattr(optimizer, hook)(interrupt)
        training.run(optimizer, range(20))


def test_an_interrupt_between_parameters(training: Any, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the parameters have moved."""
    optimizer = training.sgd(lr=0.5, foreach=False)
    update, interrupt = torch.Tensor.add_, Interrupt(17 * 6 - 2)

    def add_(self: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        if any(self is parameter for parameter in training.model.parameters()):
            interrupt()
        return update(self, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "add_", add_)
    with (
        pytest.warns(MonitorWarning, match=r"step 17 was interrupted .* the last record is that of step 15"),
        pytest.raises(KeyboardInterrupt),
        nm.Monitor(training.model, optimizer, training.symmetries, store, every=5),
    ):
        training.run(optimizer, range(20))
    # The record of step 15 was held for its scalars and is written now: it belongs to a step that ended.
    assert list(nm.open_run(store).data["step"].values) == [0, 5, 10, 15]
    assert exact_error(store) < 1e-12


def test_an_interrupt_anywhere_in_the_monitor(make: Callable[..., Any], tmp_path: Path) -> None:
    """Ctrl-C at each place where the monitor calls its own code; what is recorded is recorded once, and true."""
    import sys

    whole = make()
    optimizer = whole.sgd(momentum=0.9)
    with nm.Monitor(whole.model, optimizer, whole.symmetries, every=1) as monitor:
        whole.run(optimizer, range(4))
    truth = monitor.run.data["charge"].values
    for number in range(3, 400, 23):
        training, path, interrupt = make(), tmp_path / str(number), Interrupt(number)
        optimizer = training.sgd(momentum=0.9)

        def trace(frame: Any, event: str, argument: Any, interrupt: Interrupt = interrupt) -> None:
            # Python drops what is raised while a generator is closed that nobody reads further.
            plain = not frame.f_code.co_flags & inspect.CO_GENERATOR
            if (
                event == "call"
                and plain
                and "neuralmechanics/monitor" in frame.f_code.co_filename
                and interrupt.left > 0
            ):
                interrupt()

        try:
            with nm.Monitor(training.model, optimizer, training.symmetries, path, every=1):
                sys.setprofile(trace)
                training.run(optimizer, range(4))
                sys.setprofile(None)
        except KeyboardInterrupt:
            pass
        except MonitorWarning:
            pass  # warnings are errors here
        finally:
            sys.setprofile(None)
        run = nm.open_run(path)
        assert run.verify()["sound"].all()
        steps = run.data["step"].values
        assert np.array_equal(steps, np.arange(len(steps)))
        assert np.array_equal(run.data["charge"].values, truth[: len(steps)])


def test_a_training_that_ran_away_is_an_infinite_error(training: Any, store: Path) -> None:
    """NaN at step 6: the first such step is named, and no number of the table is that of the steps before it."""
    optimizer = training.sgd(momentum=0.9)

    def poison(*arguments: Any) -> None:
        steps.append(None)
        if len(steps) == 6:
            next(training.model.parameters()).grad[0, 0] = float("nan")

    steps: list[None] = []
    optimizer.register_step_pre_hook(poison)
    with nm.Monitor(training.model, optimizer, training.symmetries, store, every=1, residuals=True):
        training.run(optimizer, range(20))
    run = nm.open_run(store)
    errors = run.errors()
    lost = errors[errors["nonfinite_step"].notna()]
    assert set(lost["kind"]) >= {"rescale", "translation"}
    assert lost["nonfinite_step"].min() == 6
    assert np.isinf(lost[["max_error", "rms_error"]]).all(axis=None)
    first = lost[lost["nonfinite_step"] == 6]
    whole = run.data["charge"].isel(charge=(run.data["family"] == first.iloc[0]["family"]).values)
    assert np.isfinite(whole.sel(step=5)).all()
    assert not np.isfinite(whole.sel(step=6)).all()


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_charges_that_are_not_finite_from_the_start(training: Any, value: float) -> None:
    with torch.no_grad():
        training.model[0].weight[0, 0] = value
    optimizer = training.sgd()
    with nm.Monitor(training.model, optimizer, training.symmetries, every=1) as monitor:
        training.run(optimizer, range(3))
    errors = monitor.run.errors(by="kind").query("kind == 'rescale'")
    assert (errors["nonfinite_step"] == 0).all()
    assert np.isinf(errors["max_error"]).all()


def test_a_law_that_was_withheld_before_stays_withheld(training: Any) -> None:
    from neuralmechanics.monitor.reading.errors import error_table

    optimizer = training.sgd()
    with nm.Monitor(training.model, optimizer, training.symmetries, every=1) as monitor:
        training.run(optimizer, range(6))
    data = monitor.run.data.copy(deep=True)
    data["predicted"].loc[{"law": "exact", "step": slice(3, None)}] = np.nan
    data["charge"].values[5:] = np.nan
    table = error_table(data, by="kind").set_index(["kind", "law"])["max_error"]
    assert table["rescale", "exact"] < 1e-12
    assert np.isinf(table["rescale", "modified_flow"])


def test_bad_values_are_one_warning_each_and_the_monitoring_goes_on(training: Any, store: Path) -> None:
    optimizer = training.sgd()
    bad: list[tuple[str, Any]] = [
        *(("loss", value) for value in ("high", None, [1.0], 1j, torch.zeros(2), torch.tensor(1j), 10**400)),
        *(("scalar_charge", 1.0), ("scalar_learning_rate", 1.0), ("a\x1bb", 1.0), ("", 1.0), ("x" * 300, 1.0)),
    ]
    with nm.Monitor(training.model, optimizer, training.symmetries, store, every=1) as monitor:
        training.run(optimizer, range(3))
        with pytest.warns(MonitorWarning) as caught:
            log_all(monitor, bad * 2)
        monitor.log(charge=3.0, learning_rate=4.0, truth=True)
        training.run(optimizer, range(3, 6))
    assert monitor.failure is None
    assert len(caught) == len({name for name, _ in bad})
    data = nm.open_run(store).data
    assert list(data["step"].values) == list(range(7))
    assert "loss" not in data
    found = [float(data[name].sel(step=3)) for name in ("scalar_charge", "scalar_learning_rate", "truth")]
    assert found == [3.0, 4.0, 1.0]


def log_all(monitor: nm.Monitor, values: list[tuple[str, Any]]) -> None:
    for name, value in values:
        monitor.log(**{name: value})


def test_names_that_an_export_cannot_hold_are_refused(training: Any, store: Path, tmp_path: Path) -> None:
    optimizer = training.sgd()
    with nm.Monitor(training.model, optimizer, training.symmetries, store, every=1, strict=True) as monitor:
        training.run(optimizer, range(2), lambda step, loss: monitor.log(**{"train/loss": loss, "measured": 1.0}))
    run = nm.open_run(store)
    with pytest.raises(ValueError, match=r"cannot export 'train/loss' to \.nc"):
        run.export(tmp_path / "run.nc")
    run.export(tmp_path / "run.csv")
    header = (tmp_path / "run.csv").read_text().splitlines()[0].split(",")
    assert len(set(header)) == len(header)
    assert {"measured", "scalar_measured", "train/loss"} <= set(header)


def test_a_failed_merge_is_no_failure(training: Any, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neuralmechanics.monitor.store import merging

    write = merging.publishing_shard

    def failing(path: Path, *arguments: Any, **options: Any) -> Iterator[None]:
        if "00000000-00000003" in path.name:
            raise OSError(28, "No space left on device")
        yield from write(path, *arguments, **options)

    monkeypatch.setattr(merging, "MERGED", 4)
    monkeypatch.setattr(merging, "publishing_shard", failing)
    optimizer = training.sgd()
    with nm.Monitor(training.model, optimizer, training.symmetries, store, every=1) as monitor:
        training.run(optimizer, range(6))
        monkeypatch.setattr(merging, "publishing_shard", write)
        training.run(optimizer, range(6, 12))
    assert monitor.failure is None
    run = nm.open_run(store)
    assert list(run.data["step"].values) == list(range(13))
    # The next merge puts what the failed one left into its place.
    names = sorted(path.name for path in (store / "segment-0000").glob("records-*"))
    assert names[:3] == [f"records-{n:08d}-{n + 3:08d}.safetensors" for n in (0, 4, 8)]


def test_leftovers_of_a_killed_writer_are_removed_and_block_nothing(training: Any, store: Path) -> None:
    """What any kill may leave: half a folder, half a file, an empty run; a user's file of another name stays."""
    store.mkdir()
    (store / ".tmp-12-run.json").write_text("half")
    (store / ".partial-12-segment-0000").mkdir()
    (store / ".partial-12-segment-0000" / ".tmp-12-start.safetensors").write_text("half")
    (store / "tally.txt").write_text("half")
    (store / ".notes").write_text("mine")
    optimizer = training.sgd()
    with nm.Monitor(training.model, optimizer, training.symmetries, store, strict=True):
        training.run(optimizer, range(3))
    assert sorted(path.name for path in store.iterdir()) == [".lock", ".notes", "run.json", "segment-0000", "tally.txt"]
    assert list(nm.open_run(store).data["step"].values) == [0, 3]
