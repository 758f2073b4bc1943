"""A checkpoint holds the monitor: killed and resumed from it, the run is as if nothing had happened."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.children import loaded
from tests.monitor import resuming

import neuralmechanics as nm
from neuralmechanics.monitor import MonitorWarning

STEPS, SAVED = 17, 9

OPTIMIZERS: Mapping[str, Callable[[Any], list[torch.optim.Optimizer]]] = {
    "heavy ball": lambda m: [torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)],
    "nesterov": lambda m: [torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, nesterov=True)],
    "strong decay": lambda m: [torch.optim.SGD(m.parameters(), lr=0.5, momentum=0.2, weight_decay=2.8)],
    "adam": lambda m: [torch.optim.Adam(m.parameters(), lr=1e-2)],
    "two": lambda m: [
        torch.optim.SGD(m[:2].parameters(), lr=0.1, momentum=0.9),
        torch.optim.AdamW(m[2:].parameters(), lr=1e-2),
    ],
}


def run(training: Any, optimizers: list[torch.optim.Optimizer], steps: range, monitor: nm.Monitor) -> None:
    for step in steps:
        loss = nm_loss(training, step)
        training.model.zero_grad()
        loss.backward()
        for each in optimizers:
            each.step()
        monitor.log(loss=loss)


def nm_loss(training: Any, step: int) -> torch.Tensor:
    x, y = training.batch(step)
    return torch.nn.functional.cross_entropy(training.model(x), y)


@pytest.mark.filterwarnings("ignore::neuralmechanics.monitor.MonitorWarning")
@pytest.mark.parametrize("name", list(OPTIMIZERS))
@pytest.mark.parametrize("every", [4, SAVED])
def test_resumed_from_a_checkpoint_is_as_uninterrupted(
    name: str, every: int, make: Callable[..., Any], tmp_path: Path
) -> None:
    """Off a record and on one; the checkpoint goes through a file that is read without running code."""
    options: dict[str, Any] = {"every": every, "residuals": True, "drives": True, "strict": True}
    training = make()
    optimizers = OPTIMIZERS[name](training.model)
    with nm.Monitor(training.model, optimizers, training.symmetries, tmp_path / "run", **options) as monitor:
        run(training, optimizers, range(SAVED), monitor)
        buffer = io.BytesIO()
        torch.save([monitor.state_dict(), training.model.state_dict(), [o.state_dict() for o in optimizers]], buffer)
        assert monitor.recorded_step == SAVED
        run(training, optimizers, range(SAVED, SAVED + 3), monitor)  # lost
    again = make()
    optimizers = OPTIMIZERS[name](again.model)
    state, weights, moments = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    again.model.load_state_dict(weights)
    for optimizer, moment in zip(optimizers, moments, strict=True):
        optimizer.load_state_dict(moment)
    with nm.Monitor(again.model, optimizers, again.symmetries, tmp_path / "run", resume=True, **options) as monitor:
        monitor.load_state_dict(state)
        run(again, optimizers, range(SAVED, STEPS), monitor)
    right = make()
    optimizers = OPTIMIZERS[name](right.model)
    with nm.Monitor(right.model, optimizers, right.symmetries, **options) as monitor:
        run(right, optimizers, range(STEPS), monitor)
    assert all(torch.equal(p, q) for p, q in zip(again.model.parameters(), right.model.parameters(), strict=True))
    stored = nm.open_run(tmp_path / "run")
    one, other = stored.data, monitor.run.data
    assert sorted({*other["step"].values.tolist(), SAVED}) == one["step"].values.tolist()
    one = one.sel(step=other["step"].values)
    for variable in ("charge", "predicted", "residual", "outside", "learning_rate", "loss"):
        if variable in one:
            a, b = one[variable].values, other[variable].values
            wrong = ~np.isclose(a, b, rtol=1e-13, atol=1e-15, equal_nan=True)
            assert not wrong.any(), (variable, np.argwhere(wrong)[:4], a[wrong][:4], b[wrong][:4])
    a, b = (history.drives.update_energy for history in (stored.drive_history(), monitor.run.drive_history()))
    assert a is not None
    assert b is not None
    assert torch.allclose(a, b, rtol=1e-13, atol=1e-15)


def test_after_a_failure_a_checkpoint_says_so_and_is_refused(
    training: Any, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The laws stood still while the training went on: they are of no use to the weights of the checkpoint."""
    from neuralmechanics.monitor.following.watching.watchdog import Watchdog

    def broken(self: Watchdog, *given: Any) -> Any:
        raise ArithmeticError("planted")

    optimizer = training.sgd(momentum=0.9)
    monkeypatch.setattr(Watchdog, "settle", broken)
    monitor = nm.Monitor(training.model, optimizer, training.symmetries, every=4)
    with pytest.warns(MonitorWarning, match="planted"), monitor:
        training.run(optimizer, range(6))
    monkeypatch.undo()
    state = monitor.state_dict()
    assert state == {"step": 0, "failure": "planted"}
    other = make()
    with (
        pytest.raises(ValueError, match=r"had failed at step 0 .*\(planted\).* give resume=STEP"),
        nm.Monitor(other.model, other.sgd(momentum=0.9), other.symmetries) as fresh,
    ):
        fresh.load_state_dict(state)


def test_killed_and_resumed_from_the_checkpoint(make: Callable[..., Any], tmp_path: Path) -> None:
    """Twice killed without warning, in different places, then run to its end."""
    for last in (10, 15, STEPS):
        ours, theirs = loaded().Pipe()
        given = tmp_path, STEPS, theirs, last < STEPS
        process = loaded().Process(target=resuming.go_on, args=given, daemon=True)
        process.start()
        theirs.close()
        for step in iter(ours.recv, last):
            if step in resuming.WAITS:
                ours.send("go on")
        if last < STEPS:
            process.kill()
        process.join()
        assert process.exitcode == (-signal.SIGKILL if last < STEPS else 0)
    training = make()
    optimizer = training.sgd(momentum=0.9, weight_decay=1e-3)
    with nm.Monitor(training.model, optimizer, training.symmetries, every=4, residuals=True) as monitor:
        training.run(optimizer, range(STEPS))
    right = monitor.run.data
    stored = nm.open_run(tmp_path / "run")
    assert stored.verify()["sound"].all()
    assert list(stored.data["step"].values) == [0, 4, 7, 8, 12, 13, 16, 17]
    both = stored.data.sel(step=right["step"].values)
    for name in ("charge", "predicted", "residual"):
        assert np.allclose(both[name], right[name], rtol=1e-13, atol=1e-15, equal_nan=True), name
