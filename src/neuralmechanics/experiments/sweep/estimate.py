"""What a sweep will cost before any of it is trained: hours, disk, memory, from a few steps of each kind."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from neuralmechanics.experiments.config import ImageConfig, TrainConfig
from neuralmechanics.experiments.data.dataset import DataSet, Split
from neuralmechanics.experiments.data.library import load_data
from neuralmechanics.experiments.data.sources import SOURCES
from neuralmechanics.experiments.losses import loss_function
from neuralmechanics.experiments.targets import resolve_model
from neuralmechanics.experiments.training.loop import train
from neuralmechanics.experiments.training.observer import Training
from neuralmechanics.experiments.training.plan import Plan
from neuralmechanics.functional.as_found import left_as_found
from neuralmechanics.monitor.store.merging import block_of, merged
from neuralmechanics.monitor.store.shards.narrow import narrowed
from neuralmechanics.monitor.store.shards.shard import read_shard, write_shard
from neuralmechanics.monitor.warning import MonitorWarning

# Steps of a probe: the first one is slower than those after it.
_STEPS = 3
# Examples in a step of a probe on the CPU, where a whole batch of the largest networks takes a minute.
_EXAMPLES = 8
# What a process with torch and the monitor takes of memory beside the training's own tensors.
_PROCESS = 400 << 20


@dataclass(frozen=True)
class Cost:
    """One training's steps, seconds a step, bytes of its records, of its checkpoints, and of memory while it runs."""

    steps: int
    seconds: float
    records: int
    checkpoints: int
    memory: int


def cost_of(config: TrainConfig, device: str | None = None) -> Cost:
    """The cost of a training, from a few steps of it on random images of its size; its data need not be here.

    On the CPU the steps are of 8 examples and their time is scaled to the batch. The bytes of records are those that a
    monitor writes in the probe, of single ones and of what they are merged into. The last and the last but one
    checkpoint of a training are kept.
    """
    shape, classes, examples = _data_of(config)
    total = Plan(config, examples).total_steps()
    on_cpu = (device or config.device) == "cpu" or not torch.cuda.is_available()
    batch = min(config.batch_size, _EXAMPLES) if on_cpu else config.batch_size
    step, record, checkpoint = _probe(replace(_kind(config), batch_size=batch), shape, classes, device)
    seconds = step * config.batch_size / batch
    kept = 2 if config.checkpoint_every is not None else 1
    records = total // config.record.every + 1
    return Cost(total, seconds, record.of(records), kept * checkpoint, memory_of(config))


@dataclass(frozen=True)
class _RecordBytes:
    """Bytes of a record that stands alone, of a shard of `block` records, and of what is measured beside a record."""

    single: int
    shard: int
    block: int
    beside: int

    def of(self, records: int) -> int:
        """What so many records take: whole blocks are merged, the others stand alone."""
        whole, alone = divmod(records, self.block)
        return whole * self.shard + alone * self.single + records * self.beside


def memory_of(config: TrainConfig) -> int:
    """Bytes that one step needs: parameters, gradients, momentum, and what the forward pass keeps for the backward one.

    Counted on two examples and scaled to the batch; buffers that kernels take for themselves are not in it.
    """
    shape, classes, _ = _data_of(config)
    fixed, each = _memory(_kind(config), shape, classes)
    return _PROCESS + fixed + each * config.batch_size


def _kind(config: TrainConfig) -> TrainConfig:
    """What decides the cost of a step: trainings that differ in their hyperparameters alone are one kind."""
    heavy = 0.9 if config.optimizer.momentum > 0 else 0.0
    settings = replace(config.optimizer, weight_decay=0.0, learning_rate=1e-4, momentum=heavy, dampening=0.0)
    base = TrainConfig()
    return replace(
        config, optimizer=settings, seed=0, epochs=1.0, steps=None, schedule=base.schedule, checkpoint_every=None
    )


@cache
def _data(name: str, images: ImageConfig) -> tuple[tuple[int, ...], int, int]:
    if name in SOURCES:
        source = SOURCES[name]
        return source.shape(images.size), source.classes, min(images.train_limit or 1 << 60, source.train.images)
    data = load_data(name, images)
    return data.input_shape, data.classes, len(data.train)


def _data_of(config: TrainConfig) -> tuple[tuple[int, ...], int, int]:
    """Shape of an example, number of classes and of training examples: of a published set without looking for it."""
    return _data(config.data, config.images)


@cache
def _probe(
    kind: TrainConfig, shape: tuple[int, ...], classes: int, device: str | None
) -> tuple[float, _RecordBytes, int]:
    """Seconds a step, bytes of records, bytes of a checkpoint."""
    config = replace(
        kind,
        steps=_STEPS,
        images=replace(kind.images, train_limit=None, test_limit=None),
        record=replace(kind.record, every=1),
    )
    watch = _StopWatch()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # What a monitor says of noise instead of images is nothing that the real trainings will show.
        warnings.simplefilter("ignore", MonitorWarning)
        out = Path(folder) / "run"
        train(config, out, observer=watch, data=_random(kind.data, shape, classes, kind.batch_size), device=device)
        metrics = sum(path.stat().st_size for path in out.glob("metrics/step-*"))
        record = _record_bytes(sorted(out.glob("segment-*/records-*")), metrics // _STEPS)
        checkpoint = sum(path.stat().st_size for path in out.glob("checkpoints/*.pt"))
    return watch.seconds, record, checkpoint


def _record_bytes(shards: Sequence[Path], beside: int) -> _RecordBytes:
    """What records take: the last of these alone, and a whole block of them merged.

    Later than in these few steps two laws have left the charges so far that their own state is kept beside them.
    """
    parts = [read_shard(path) for path in shards]
    left = 2 * int(parts[-1].arrays["charge"][-1].nbytes)
    block = block_of(parts[0].arrays)
    # The same few records over and over: rows beside one another differ as they will, and no code sees further.
    rows = [parts[len(parts) - 1 - k % (len(parts) - 1)].arrays for k in range(block)]
    path = shards[-1].with_name("merged")
    write_shard(path, narrowed(merged(rows)), parts[-1].link, packed=True)
    return _RecordBytes(shards[-1].stat().st_size + left, path.stat().st_size + left, block, beside)


class _StopWatch:
    """The shortest time from one step to the next."""

    def __init__(self) -> None:
        self.seconds = float("inf")
        self._last: float | None = None

    @contextmanager
    def watch(self, training: Training) -> Iterator[None]:
        yield

    def before(self, step: int) -> None: ...

    def after(self, step: int) -> None:
        now = time.perf_counter()
        if self._last is not None:
            self.seconds = min(self.seconds, now - self._last)
        self._last = now


def _random(name: str, shape: tuple[int, ...], classes: int, batch: int) -> DataSet:
    """As many random examples as a few steps need, with the name of the data set that they stand for."""
    draw = torch.Generator().manual_seed(0)
    count = batch * _STEPS
    images = len(shape) == 3
    size, most = (count, *shape), 256 if images else classes
    inputs = torch.randint(most, size, generator=draw, dtype=torch.uint8 if images else torch.int64)
    labels = torch.randint(classes, (count,) if images else size, generator=draw)
    split = Split(inputs, labels)
    half = (0.5,) * shape[0] if images else ()
    return DataSet(name, split, split.first(2), classes, half, half)


@cache
def _memory(kind: TrainConfig, shape: tuple[int, ...], classes: int) -> tuple[int, int]:
    """Bytes that do not depend on the batch, and bytes an example."""
    model = resolve_model(kind.model, input_shape=shape, classes=classes, initialisation=kind.initialisation)
    parameters = list(model.parameters())
    copies = 2 + (kind.optimizer.momentum > 0)
    fixed = copies * sum(p.numel() * p.element_size() for p in parameters)
    batch = _random(kind.data, shape, classes, 2).train.first(2)
    inputs = batch.inputs.float() if batch.inputs.dtype == torch.uint8 else batch.inputs
    loss = loss_function(kind.loss)
    owned = {p.untyped_storage().data_ptr() for p in parameters}
    kept = _saved_bytes(lambda: loss(model, (inputs, batch.labels)), model, owned)
    width = {"float64": 2.0, "bfloat16": 0.5}.get(kind.precision, 1.0)
    # Under bfloat16 the weights stay in single precision, and only what is computed is half as wide.
    return int(fixed * max(1.0, width)), int(kept * width) // 2


def _saved_bytes(forward: Callable[[], Tensor], model: torch.nn.Module, owned: set[int]) -> int:
    """Bytes of the storages that a forward pass keeps for its backward one, those in `owned` left out."""
    sizes: dict[int, int] = {}
    held: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            # Held, so that no other storage gets the same address meanwhile.
            held.append(tensor.detach())
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with left_as_found(model), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(sizes.values())


def totals(costs: Sequence[Cost], workers: int = 1) -> tuple[float, int, int]:
    """Hours with `workers` trainings at a time that do not slow one another, bytes on disk, bytes of memory at once."""
    hours = sum(cost.steps * cost.seconds for cost in costs) / 3600 / max(1, min(workers, len(costs)))
    largest = sorted((cost.memory for cost in costs), reverse=True)[: max(1, workers)]
    return hours, sum(cost.records + cost.checkpoints for cost in costs), sum(largest)
