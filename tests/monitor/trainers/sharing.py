"""What each of two processes does that train one model through a trainer: the training, or a part of it resumed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tests.monitor.trainers.networks import BATCH, Classifier, Points, loss_fn, symmetries
from torch.utils.data import DataLoader, DistributedSampler

import neuralmechanics as nm

EVERY = 5


def _launched(rank: int) -> None:
    """The environment that launchers make; the group of processes is there already, so no port is opened."""
    size = str(dist.get_world_size())
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "OMP_NUM_THREADS": "1"}
    warnings.simplefilter("ignore")  # the trainers' own
    warnings.simplefilter("always", nm.monitor.MonitorWarning)


def _told(model: torch.nn.Module, monitor: nm.Monitor) -> dict[str, Any]:
    run = monitor.run
    return {
        "data": {name: v.values for name, v in run.data.variables.items()},
        "weights": {name.removeprefix("module."): p.detach().numpy() for name, p in model.named_parameters()},
        "said": [note.message for note in run.warnings],
        "step": monitor.step,
        "failure": str(monitor.failure),
    }


def with_accelerate(rank: int, folder: Path, stop: int | None, resume: bool, epochs: int) -> dict[str, Any]:
    """Accelerate: processes take turns at half batches; a checkpoint where it stops, one step that is lost after."""
    import accelerate

    _launched(rank)
    accelerate.state.AcceleratorState._reset_state(True)
    accelerator = accelerate.Accelerator(cpu=True)
    assert accelerator.num_processes == dist.get_world_size()
    model = Classifier()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    model, optimizer, loader = accelerator.prepare(
        model, sgd, DataLoader(Points(), batch_size=BATCH // dist.get_world_size())
    )
    monitor = nm.Monitor(
        model, optimizer, symmetries(), folder / "run", every=EVERY, residuals=True, strict=True, resume=resume
    )
    accelerator.register_for_checkpointing(monitor)
    if resume:
        accelerator.load_state(str(folder / "checkpoint"))
    with monitor:
        number = monitor.step if resume else 0
        batches = [batch for _ in range(epochs) for batch in loader]
        for batch in batches[_begun(folder, rank) if resume else 0 :]:
            optimizer.zero_grad()
            accelerator.backward(loss_fn(model, (batch["x"], batch["labels"])))
            optimizer.step()
            number += 1
            if number == stop:
                accelerator.save_state(str(folder / "checkpoint"))
                (folder / f"stopped-{rank}").write_text(str(number))
            if stop is not None and number == stop + 1:
                break
    dist.barrier()
    return _told(model, monitor)


def _begun(folder: Path, rank: int) -> int:
    return int((folder / f"stopped-{rank}").read_text())


def with_lightning(rank: int, folder: Path, stop: int | None, resume: bool, epochs: int) -> dict[str, Any]:
    """Lightning's own DDP; a checkpoint at the end of an epoch."""
    import lightning.pytorch as lightning
    from lightning.pytorch.plugins.environments import TorchElasticEnvironment
    from lightning.pytorch.strategies import DDPStrategy

    from neuralmechanics.monitor.trainers.lightning import LightningMonitor

    _launched(rank)

    class Module(lightning.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = Classifier()

        def training_step(self, batch: Mapping[str, torch.Tensor], number: int) -> torch.Tensor:
            loss: torch.Tensor = self.net(**batch)["loss"]
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)

    module = Module()
    options: dict[str, Any] = {"every": EVERY, "residuals": True, "strict": True}
    callback = LightningMonitor(symmetries(), folder / "run", model=module.net, **options)
    strategy = DDPStrategy(cluster_environment=TorchElasticEnvironment(), process_group_backend="gloo")
    trainer = lightning.Trainer(
        accelerator="cpu", strategy=strategy, devices=dist.get_world_size(), max_epochs=epochs, callbacks=[callback],
        use_distributed_sampler=False, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    )  # fmt: skip
    sampler = DistributedSampler(Points(), shuffle=False)  # Lightning's own shuffles
    loader = DataLoader(Points(), batch_size=BATCH // dist.get_world_size(), sampler=sampler)
    trainer.fit(module, loader, ckpt_path=str(folder / "one.ckpt") if resume else None)
    if stop is not None:
        trainer.save_checkpoint(folder / "one.ckpt", weights_only=False)
    dist.barrier()
    assert callback.monitor is not None
    return _told(module.net, callback.monitor)


def with_transformers(rank: int, folder: Path, stop: int | None, resume: bool, epochs: int) -> dict[str, Any]:
    """The Trainer of Transformers; its checkpoint holds the monitor's state."""
    import transformers

    from neuralmechanics.monitor.trainers.transformers import TransformersMonitor

    _launched(rank)
    model = Classifier()
    callback = TransformersMonitor(symmetries(), folder / "run", every=EVERY, residuals=True, strict=True)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "out"), num_train_epochs=epochs,
        per_device_train_batch_size=BATCH // dist.get_world_size(), lr_scheduler_type="constant", max_grad_norm=0.0,
        use_cpu=True, report_to=[], disable_tqdm=True, remove_unused_columns=False,
        train_sampling_strategy="sequential", save_strategy="no" if stop is None else "steps", save_steps=stop or 1,
        ddp_backend="gloo",
    )  # fmt: skip
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    trainer = transformers.Trainer(
        model, arguments, train_dataset=Points(), optimizers=(sgd, torch.optim.lr_scheduler.ConstantLR(sgd, 1.0)),
        callbacks=[callback],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume or None)
    dist.barrier()
    assert callback.monitor is not None
    return _told(model, callback.monitor)
