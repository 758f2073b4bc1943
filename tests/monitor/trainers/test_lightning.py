"""Lightning: the callback in the real trainer, accumulation, errors, and its own checkpoints."""

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
from torch import Tensor
from torch.utils.data import DataLoader

import neuralmechanics as nm
from neuralmechanics.monitor import MonitorWarning

lightning = pytest.importorskip("lightning.pytorch")
pytestmark = pytest.mark.filterwarnings("ignore", "error::neuralmechanics.monitor.MonitorWarning")  # Lightning's own


class Module(lightning.LightningModule):  # type: ignore[name-defined,misc]
    """The classifier with a training step."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.net, self.fail_at = Classifier(), fail_at

    def training_step(self, batch: dict[str, Tensor], number: int) -> Tensor:
        if self.global_step == self.fail_at:
            raise RuntimeError("the loop fails")
        loss: Tensor = self.net(**batch)["loss"]
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)


def fit(
    tmp_path: Path, epochs: int, *, fail_at: int | None = None, checkpoint: Path | None = None, **options: Any
) -> tuple[Any, Any, Any]:
    from neuralmechanics.monitor.trainers.lightning import LightningMonitor

    module = Module(fail_at)
    callback = LightningMonitor(
        symmetries(), tmp_path / "run", model=module.net, every=5, residuals=True, **options.pop("monitor", {})
    )
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[callback],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **options,
    )
    loader = DataLoader(Points(), batch_size=BATCH)
    trainer.fit(module, loader, ckpt_path=None if checkpoint is None else str(checkpoint))
    return trainer, module, callback


def test_the_callback_follows_the_trainer(tmp_path: Path) -> None:
    _, module, callback = fit(tmp_path, 2)
    assert callback.monitor.step == 2 * BATCHES
    right_model, right = plain_run(2 * BATCHES, every=5)
    assert_same_weights(module.net, right_model)
    assert_same_run(nm.open_run(tmp_path / "run"), right)


def test_names_of_the_whole_module(tmp_path: Path) -> None:
    from neuralmechanics.monitor.trainers.lightning import LightningMonitor

    module = Module()
    found = nm.find_symmetries(module, Points().batch(0), lambda m, b: m.training_step({"x": b[0], "labels": b[1]}, 0))
    assert found.parameters[0].startswith("net.layers.")
    callback = LightningMonitor(found, every=5, residuals=True)
    lightning.Trainer(
        accelerator="cpu", max_epochs=1, callbacks=[callback], logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False,
    ).fit(module, DataLoader(Points(), batch_size=BATCH))  # fmt: skip
    assert callback.monitor is not None
    assert_same_run(callback.monitor.run, plain_run(BATCHES, every=5)[1])


def test_accumulation(tmp_path: Path) -> None:
    _, _, callback = fit(tmp_path, 1, accumulate_grad_batches=2)
    assert callback.monitor.step == BATCHES // 2
    assert callback.monitor.run.errors().query("law in ['exact', 'identity']")["max_error"].max() < 1e-13


def test_a_checkpoint_of_lightning_holds_the_monitor(tmp_path: Path) -> None:
    trainer, *_ = fit(tmp_path, 1)
    trainer.save_checkpoint(tmp_path / "one.ckpt", weights_only=False)
    _, module, callback = fit(tmp_path, 3, checkpoint=tmp_path / "one.ckpt")
    right_model, right = plain_run(3 * BATCHES, every=5)
    assert_same_weights(module.net, right_model)
    assert callback.monitor.step == 3 * BATCHES
    run = nm.open_run(tmp_path / "run")
    assert list(run.data["step"].values) == [0, 5, 6, 10, 15, 18]
    both = run.data.sel(step=right.data["step"].values)
    for name in ("charge", "predicted", "residual"):
        assert abs(both[name] - right.data[name]).max() < 1e-13, name


def test_an_error_of_the_loop_passes_and_the_record_is_kept(tmp_path: Path) -> None:
    with (
        pytest.warns(MonitorWarning, match="step 8 was interrupted"),
        pytest.raises(RuntimeError, match="the loop fails"),
    ):
        fit(tmp_path, 2, fail_at=7)
    run = nm.open_run(tmp_path / "run")
    assert list(run.data["step"].values) == [0, 5]
    assert ["not seen to end" in note.message for note in run.warnings] == [True]
