"""The training loop that the demo, the paper's experiments and sweeps share."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from neuralmechanics.experiments.config import RESULT, TrainConfig
from neuralmechanics.experiments.data import Batches, DataSet, Position, data_names, data_set, load_data
from neuralmechanics.experiments.losses import loss_function
from neuralmechanics.experiments.measuring.evaluation import Performance, evaluate
from neuralmechanics.experiments.measuring.metrics import Metrics
from neuralmechanics.experiments.seeds import seeded
from neuralmechanics.experiments.targets import require_fit, resolve_model
from neuralmechanics.experiments.training.checkpoints import last_checkpoint, load_checkpoint, save_checkpoint
from neuralmechanics.experiments.training.observer import Observer, Training
from neuralmechanics.experiments.training.plan import Plan
from neuralmechanics.experiments.training.recording import attach_monitor
from neuralmechanics.experiments.training.runfolder import CHECKPOINTS, METRICS, claim_folder, write_json
from neuralmechanics.experiments.training.schedule import Hyper
from neuralmechanics.optimizers.make import make_optimizer
from neuralmechanics.progress import Meter, SilentMeter

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class TrainResult:
    """A finished training: the network, how well it does on the test set, its length and where its run lies."""

    model: nn.Module
    performance: Performance
    steps: int
    seconds: float
    out: Path | None


def train(
    config: TrainConfig,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    meter: Meter | None = None,
    observer: Observer | None = None,
    data: Any = None,
    device: str | None = None,
) -> TrainResult:
    """Train as `config` says; with `out` given, record the run there, checkpointed and resumable.

    The result is a function of `config` alone: weights, order, augmentation and dropout come from its seed, and
    torch's own random state is left as it was. `resume` continues from the last checkpoint in `out` bit for bit
    (on CUDA as far as its kernels are deterministic), or starts if there is none. An `observer` is told of every step
    and changes nothing. `data` are examples of your own, tensors, a `Dataset`, a `DataLoader` or a `DataSet` (see
    `data_set`), called as `config.data` says; `device` is where this process trains, in place of `config.device`, and
    no part of what the run is. Raises `ValueError` for what cannot be
    trained and `FloatingPointError` when the loss stops being finite.
    """
    folder = None if out is None else Path(out)
    meter = meter or SilentMeter()
    used = _device(device or config.device)
    with ExitStack() as stack:
        # Before the folder is claimed: a training that cannot begin leaves nothing behind.
        training = _prepare(config, _examples(config, data), folder, used)
        if folder is not None:
            stack.callback(claim_folder(folder, config, resume=resume).release)
        # Before the checkpoint, which brings random states of its own.
        stack.enter_context(seeded(config.seed, "training", device=used))
        position = Position()
        checkpoint = last_checkpoint(folder / CHECKPOINTS) if folder is not None and resume else None
        if checkpoint is not None:
            position = load_checkpoint(checkpoint, training.model, training.optimizer)
        began, first = time.perf_counter(), position.step
        meter.start(training.plan.total_steps(), config.model)
        meter.advance(first)
        try:
            position, performance = _run(training, position, meter, observer)
        finally:
            meter.finish()
        seconds = time.perf_counter() - began
        if folder is not None:
            scores = {"loss": performance.loss, "top1": performance.top1, "top5": performance.top5}
            made = {"steps": position.step, "seconds": seconds, "steps_timed": position.step - first}
            write_json(folder / RESULT, scores | made)
    return TrainResult(training.model, performance, position.step, seconds, folder)


def _examples(config: TrainConfig, data: Any) -> DataSet:
    if data is None:
        return load_data(config.data, config.images)
    if not isinstance(data, DataSet) and config.data in data_names():
        raise ValueError(f"data = {config.data!r} names a data set that is known; give your own a name of its own")
    given = data_set(data, config.data).limited(config.images.train_limit, config.images.test_limit)
    # The run's folder says what it was trained on.
    if given.name != config.data:
        raise ValueError(f"the examples are called {given.name!r}, the configuration's data {config.data!r}")
    return given


def _prepare(config: TrainConfig, data: DataSet, out: Path | None, device: torch.device) -> Training:
    dtype = torch.float64 if config.precision == "float64" else torch.float32
    batches = Batches(data, seed=config.seed, augment=config.images.augment, device=device, dtype=dtype)
    model = resolve_model(
        config.model,
        input_shape=data.input_shape,
        classes=data.classes,
        seed=config.seed,
        initialisation=config.initialisation,
        restore=config.restore,
    ).to(device, dtype)
    require_fit(model, f"model {config.model!r}", batches.probe(2)[0])
    return Training(
        config=config,
        model=model,
        optimizer=make_optimizer(model.parameters(), config.optimizer),
        loss=loss_function(config.loss),
        batches=batches,
        plan=Plan(config, len(data.train)),
        metrics=Metrics(None if out is None else out / METRICS, config.record, model, config.seed),
        out=out,
    )


def _run(
    training: Training, position: Position, meter: Meter, observer: Observer | None
) -> tuple[Position, Performance]:
    config, plan, out = training.config, training.plan, training.out
    evaluated: Performance | None = None
    watched = nullcontext() if observer is None else observer.watch(training)
    with _monitor(training, position) as monitor, watched:
        while not plan.ended(position):
            epoch = position.epoch
            loss, position = _step(training, position, observer)
            evaluated = None
            if monitor is not None:
                monitor.log(loss=loss.detach())
            # Read at every step: a training that diverges ends where it does, not an epoch later.
            value = _finite(loss, position.step, config)
            # The step has ended an epoch: the test set is looked at before the next one.
            if position.epoch != epoch and "performance" in config.record.metrics:
                evaluated = _evaluate(training, position)
            # After the evaluation: what a resumed training does next is then the next step.
            if out is not None and config.checkpoint_every and position.step % config.checkpoint_every == 0:
                if monitor is not None:
                    monitor.flush()  # the record of a checkpoint must be on the disk before it
                save_checkpoint(out / CHECKPOINTS, training.model, training.optimizer, position)
            meter.advance(1, loss=value)
    if out is not None:
        save_checkpoint(out / CHECKPOINTS, training.model, training.optimizer, position)
    return position, evaluated or _evaluate(training, position)


def _step(training: Training, position: Position, observer: Observer | None) -> tuple[Tensor, Position]:
    """One optimiser step; returns the training loss it descended and the new position."""
    config = training.config
    hyper = training.plan.hyper(position)
    _set_hyper(training.optimizer, hyper)
    batch, following = training.batches.take(position, hyper.batch_size)
    training.optimizer.zero_grad(set_to_none=True)
    with _autocast(config, batch[0].device):
        loss = training.loss(training.model, batch)
    # Outside of autocast: the backward pass takes each operation in the type that its forward pass had.
    loss.backward()  # type: ignore[no-untyped-call]
    training.metrics.before(position.step, lambda: training.loss(training.model, batch))
    if observer is not None:
        observer.before(position.step)
    training.optimizer.step()
    if observer is not None:
        observer.after(following.step)
    training.metrics.after(position.step, hyper.time_step(config.optimizer.dampening))
    return loss, following


def _set_hyper(optimizer: torch.optim.Optimizer, hyper: Hyper) -> None:
    for group in optimizer.param_groups:
        group["lr"] = hyper.learning_rate
        if "momentum" in group:
            group["momentum"] = hyper.momentum


def _monitor(training: Training, position: Position) -> AbstractContextManager[Any]:
    if training.out is None or not training.config.record.enabled:
        return nullcontext()
    return attach_monitor(
        training.model,
        training.optimizer,
        training.loss,
        training.batches.probe(min(training.config.batch_size, 32)),
        training.out,
        training.config,
        resume=position.step,
    )


def _evaluate(training: Training, position: Position) -> Performance:
    performance = evaluate(training.model, training.batches.test(), training.loss)
    training.metrics.performance(position.step, performance)
    return performance


def _finite(loss: Tensor, step: int, config: TrainConfig) -> float:
    value = float(loss.detach())
    if value != value or value in (float("inf"), float("-inf")):
        rate = config.optimizer.learning_rate
        raise FloatingPointError(f"the loss is {value} after step {step}; lower optimizer.learning_rate (now {rate})")
    return value


def _autocast(config: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    if config.precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
        # A name may be well formed and its device missing, which only use shows.
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {name!r} is not available: {str(error).splitlines()[0]}") from None
    return device
