"""Transformers: the callback in the real Trainer, accumulation, and its own checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitor.trainers.networks import (
    BATCH,
    BATCHES,
    Classifier,
    Points,
    assert_same_run,
    assert_same_weights,
    plain_run,
    symmetries,
)

import neuralmechanics as nm
from neuralmechanics.monitor import MonitorWarning

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.filterwarnings("ignore", "error::neuralmechanics.monitor.MonitorWarning")


class InOrder(transformers.Trainer):  # type: ignore[misc]
    """The batches in the order of the data; older versions have no argument for it."""

    def _get_train_sampler(self, *given: Any) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def train(tmp_path: Path, steps: int, *, resume: Any = None, monitor: Any = None, **options: Any) -> tuple[Any, Any]:
    from neuralmechanics.monitor.trainers.transformers import TransformersMonitor

    model = Classifier()
    callback = TransformersMonitor(
        symmetries(), tmp_path / "run", **({"every": 5, "residuals": True, "strict": True} | (monitor or {}))
    )
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        logging_steps=2,
        **({"save_strategy": "no"} | options),
    )
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    trainer = InOrder(
        model, arguments, train_dataset=Points(), optimizers=(sgd, torch.optim.lr_scheduler.ConstantLR(sgd, 1.0)),
        callbacks=[callback],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return model, callback


def test_the_callback_follows_the_trainer(tmp_path: Path) -> None:
    model, callback = train(tmp_path, 2 * BATCHES)
    assert callback.monitor.step == 2 * BATCHES
    right_model, right = plain_run(2 * BATCHES, every=5)
    assert_same_weights(model, right_model)
    run = nm.open_run(tmp_path / "run")
    assert_same_run(run, right)
    assert run.data["loss"].notnull().sum() >= 2


def test_accumulation(tmp_path: Path) -> None:
    _, callback = train(tmp_path, 4, gradient_accumulation_steps=2)
    assert callback.monitor.step == 4
    assert callback.monitor.run.errors().query("law in ['exact', 'identity']")["max_error"].max() < 1e-13


@pytest.mark.parametrize("given", [pytest.param(True, marks=pytest.mark.slow), "path"])
def test_a_checkpoint_of_the_trainer_holds_the_monitor(tmp_path: Path, given: Any) -> None:
    train(tmp_path, 9, save_strategy="steps", save_steps=7)
    checkpoint = tmp_path / "out" / "checkpoint-7"
    assert (checkpoint / "neuralmechanics.pt").exists()
    if (tmp_path / "out" / "checkpoint-9").exists():
        (tmp_path / "out" / "checkpoint-9").rename(tmp_path / "last")
    moved: dict[str, Any] = {}
    if given == "path":
        given = str(checkpoint.rename(tmp_path / "elsewhere"))
        moved = {"resume_from": given}
    model, callback = train(tmp_path, 3 * BATCHES, resume=given, monitor=moved)
    assert callback.monitor.step == 3 * BATCHES
    right_model, right = plain_run(3 * BATCHES, every=5)
    assert_same_weights(model, right_model)
    run = nm.open_run(tmp_path / "run")
    assert list(run.data["step"].values) == [0, 5, 7, 10, 15, 18]
    both = run.data.sel(step=right.data["step"].values)
    for name in ("charge", "predicted", "residual"):
        assert abs(both[name] - right.data[name]).max() < 1e-13, name


def test_a_checkpoint_without_a_state_goes_on_from_the_record(tmp_path: Path) -> None:
    train(tmp_path, 9, save_strategy="steps", save_steps=7)
    checkpoint = tmp_path / "out" / "checkpoint-7"
    (checkpoint / "neuralmechanics.pt").unlink()
    _, callback = train(tmp_path, 12, resume=str(checkpoint))
    assert callback.monitor.step == 12
    right = plain_run(12, every=5)[1]
    both = nm.open_run(tmp_path / "run").data.sel(step=right.data["step"].values)
    assert abs(both["predicted"] - right.data["predicted"]).max() < 1e-13


def test_adamw_of_the_trainer_is_said_to_obey_no_law(tmp_path: Path) -> None:
    from neuralmechanics.monitor.trainers.transformers import TransformersMonitor

    model, callback = Classifier(), TransformersMonitor(symmetries(), every=5)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=6, per_device_train_batch_size=BATCH, use_cpu=True, report_to=[],
        disable_tqdm=True, remove_unused_columns=False, save_strategy="no",
    )  # fmt: skip
    with pytest.warns(MonitorWarning, match="AdamW obeys no closed law"):
        transformers.Trainer(model, arguments, train_dataset=Points(), callbacks=[callback]).train()
    assert callback.monitor is not None
    assert callback.monitor.step == 6
    assert callback.monitor.run.errors().query("law == 'identity'")["max_error"].max() < 1e-13
