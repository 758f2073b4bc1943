"""One training, alone and over several processes in each of the usual ways."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tests.monitor.processes.networks import CASES, Case, SmallLlama, loss_fn, tensor_parallel
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

import neuralmechanics as nm
from neuralmechanics.monitor import MonitorWarning

STEPS, EVERY = 9, 4


def shard(model: nn.Module, mesh: Any) -> nn.Module:
    """FSDP2, each block by itself."""
    for layer in model.layers if isinstance(model, SmallLlama) else ():
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def distributed(model: nn.Module, way: str) -> nn.Module:
    """The model over all processes: data parallel, sharded, tensor parallel, or two of them."""
    world = dist.get_world_size()
    if way == "ddp":
        return DistributedDataParallel(model)
    if way == "fsdp":
        return shard(model, init_device_mesh("cpu", (world,)))
    if way == "tp":
        return tensor_parallel(model, init_device_mesh("cpu", (world,)))
    names = {"fsdp+tp": ("dp", "tp"), "hsdp": ("replicate", "shard")}[way]
    mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=names)
    return shard(model, mesh) if way == "hsdp" else shard(tensor_parallel(model, mesh["tp"]), mesh["dp"])


def data_rank(name: str, way: str) -> tuple[int, int]:
    """Which share of a batch this process sees, and how many shares there are.

    All of it where there is batch norm: its statistics would be those of the share.
    """
    if way == "tp" or name == "vgg":
        return 0, 1
    if way == "fsdp+tp":
        return dist.get_rank() // 2, dist.get_world_size() // 2
    return dist.get_rank(), dist.get_world_size()


def optimizer_of(name: str, model: nn.Module) -> torch.optim.Optimizer:
    sgd = torch.optim.SGD
    made: Mapping[str, Callable[[Any], torch.optim.Optimizer]] = {
        "heavy ball": lambda p: sgd(p, lr=0.05, momentum=0.9, weight_decay=1e-2),
        "plain": lambda p: sgd(p, lr=0.05, weight_decay=1e-2),
        "nesterov": lambda p: sgd(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-2),
        "strong": lambda p: sgd(p, lr=0.5, momentum=0.5, weight_decay=2.5),
        "adam": lambda p: torch.optim.AdamW(p, lr=1e-3, eps=1e-2),  # else rounding is divided by nothing,
    }
    return made[name](list(model.parameters()))


def step(
    case: Case,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    number: int,
    part: tuple[int, int],
    backwards: int = 1,
) -> Tensor:
    """One step on this process's part of a batch, cut into so many backward passes; the last alone synchronises."""
    x, y = case.batch(number)
    size = len(x) // part[1]
    rows = torch.arange(part[0] * size, (part[0] + 1) * size)
    optimizer.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for turn, chosen in enumerate(rows.chunk(backwards)):
        with without_synchronisation(model, wanted=turn < backwards - 1):
            loss = loss_fn(model, (x[chosen], y[chosen])) / backwards
            loss.backward()
        total += loss.detach()
    optimizer.step()
    return total


@contextmanager
def without_synchronisation(model: nn.Module, *, wanted: bool) -> Iterator[None]:
    """Gradients stay in each process: DDP's `no_sync`, and what FSDP2 has in its place."""
    if isinstance(model, DistributedDataParallel) and wanted:
        with model.no_sync():
            yield
        return
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(not wanted)
    yield


def alone(name: str, found: nm.Symmetries, optimizer: str, backwards: int = 1, **options: Any) -> nm.Run:
    """The training in one process. Batch statistics are those of the whole batch, or of its part in a backward pass."""
    case, model = CASES[name], CASES[name].build()
    chosen = optimizer_of(optimizer, model)
    with nm.Monitor(model, chosen, found, every=EVERY, strict=True, **options) as monitor:
        for number in range(STEPS):
            step(case, model, chosen, number, (0, 1), backwards)
    return monitor.run


def whole(parameter: Tensor) -> Tensor:
    full = getattr(parameter, "full_tensor", None)
    return (parameter if full is None else full()).detach().clone()


@dataclass(frozen=True)
class Job:
    """A network, a way to distribute it, an optimiser, where the run is stored, and backward passes a step."""

    name: str
    way: str
    optimizer: str = "heavy ball"
    store: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    backwards: int = 1


def follow_all(rank: int, jobs: list[Job], described: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Several trainings, one after another, in one of several processes."""
    return [follow(job, nm.Symmetries.from_dict(described[job.name])) for job in jobs]


def follow(job: Job, found: nm.Symmetries) -> dict[str, Any]:
    """The training in one of several processes: the run's data as arrays, and the weights."""
    case = CASES[job.name]
    model = distributed(case.build(), job.way)
    chosen = optimizer_of(job.optimizer, model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MonitorWarning)  # compared with those of one process, as the run keeps them
        with nm.Monitor(model, chosen, found, job.store, every=EVERY, strict=True, **job.options) as monitor:
            for number in range(STEPS):
                step(case, model, chosen, number, data_rank(job.name, job.way), job.backwards)
    dist.barrier()
    return {
        "data": {n: v.values for n, v in monitor.run.data.variables.items()},
        "warnings": [note.message for note in monitor.run.warnings],
        "weights": {n.removeprefix("module."): whole(p).numpy() for n, p in model.named_parameters()},
    }
