"""Accelerate: the prepared optimiser, accumulation, and its own checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitor.trainers.networks import (
    Classifier,
    Points,
    assert_same_run,
    assert_same_weights,
    loss_fn,
    plain_run,
    symmetries,
)
from torch import nn

import neuralmechanics as nm

accelerate = pytest.importorskip("accelerate")
STEPS = 12


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Accelerate keeps one state a process."""
    accelerate.state.AcceleratorState._reset_state(True)
    accelerate.state.GradientState._reset_state()  # of a trainer before this in the same process


def prepared(**options: Any) -> tuple[Any, nn.Module, Any]:
    accelerator, model = accelerate.Accelerator(cpu=True, **options), Classifier()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    wrapped, optimizer = accelerator.prepare(model, sgd)
    return accelerator, wrapped, optimizer


def step(accelerator: Any, model: nn.Module, optimizer: Any, number: int, points: Points) -> None:
    optimizer.zero_grad()
    accelerator.backward(loss_fn(model, points.batch(number)))
    optimizer.step()


def test_the_prepared_optimiser_is_followed() -> None:
    accelerator, model, optimizer = prepared()
    with nm.Monitor(model, optimizer, symmetries(), every=5, residuals=True, strict=True) as monitor:
        for number in range(STEPS):
            step(accelerator, model, optimizer, number, Points())
    assert monitor.step == STEPS
    right_model, right = plain_run(STEPS, every=5)
    assert_same_run(monitor.run, right)
    assert_same_weights(model, right_model)


def test_a_prepared_optimiser_that_a_scheduler_moves() -> None:
    accelerator, model, optimizer = prepared()
    schedule = accelerator.prepare(torch.optim.lr_scheduler.StepLR(optimizer.optimizer, 3, gamma=0.5))
    with nm.Monitor(model, optimizer, symmetries(), every=3, residuals=True, strict=True) as monitor:
        for number in range(STEPS):
            step(accelerator, model, optimizer, number, Points())
            schedule.step()
    assert list(monitor.run.data["learning_rate"][:, 0].values) == [0.1, 0.1, 0.05, 0.025, 0.0125]
    assert monitor.run.errors().query("law == 'exact'")["max_error"].max() < 1e-13


def test_accumulation_makes_a_step_of_every_third_batch() -> None:
    accelerator, model, optimizer = prepared(gradient_accumulation_steps=3)
    points = Points()
    with nm.Monitor(model, optimizer, symmetries(), every=2, residuals=True, strict=True) as monitor:
        for number in range(STEPS):
            with accelerator.accumulate(model):
                accelerator.backward(loss_fn(model, points.batch(number)))
                optimizer.step()
                optimizer.zero_grad()
    assert monitor.step == STEPS // 3
    assert list(monitor.run.data["step"].values) == [0, 2, 4]
    assert monitor.run.errors().query("law in ['exact', 'identity']")["max_error"].max() < 1e-13


def test_a_checkpoint_of_accelerate_holds_the_monitor(tmp_path: Path) -> None:
    accelerator, model, optimizer = prepared()
    with nm.Monitor(model, optimizer, symmetries(), tmp_path / "run", every=5, residuals=True) as monitor:
        accelerator.register_for_checkpointing(monitor)
        for number in range(7):
            step(accelerator, model, optimizer, number, Points())
        accelerator.save_state(str(tmp_path / "checkpoint"))
        step(accelerator, model, optimizer, 7, Points())  # lost by the interruption
    accelerate.state.AcceleratorState._reset_state(True)
    accelerator, model, optimizer = prepared()
    resumed = nm.Monitor(model, optimizer, symmetries(), tmp_path / "run", every=5, residuals=True, resume=True)
    accelerator.register_for_checkpointing(resumed)
    accelerator.load_state(str(tmp_path / "checkpoint"))
    with resumed:
        for number in range(7, STEPS):
            step(accelerator, model, optimizer, number, Points())
    right_model, right = plain_run(STEPS, every=5)
    assert_same_weights(model, right_model)
    run = nm.open_run(tmp_path / "run")
    assert list(run.data["step"].values) == [0, 5, 7, 10, 12]
    both = run.data.sel(step=[0, 5, 10, 12])
    for name in ("charge", "predicted", "residual"):
        assert abs(both[name] - right.data[name]).max() < 1e-13, name
