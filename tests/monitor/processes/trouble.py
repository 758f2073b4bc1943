"""What the processes of the tests do when one of them dies, fails, waits or leaves."""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from tests.monitor.processes.group import FOR_EVER
from tests.monitor.processes.networks import CASES
from tests.monitor.processes.training import EVERY, STEPS, data_rank, distributed, optimizer_of, step, whole
from torch.utils._python_dispatch import TorchDispatchMode

import neuralmechanics as nm
from neuralmechanics.monitor.following.watching.watchdog import Watchdog
from neuralmechanics.monitor.processes import peers


class Collectives(TorchDispatchMode):
    """Counts every collective operation that passes torch's dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "c10d" in func.namespace:
            self.seen[str(func)] += 1
        return func(*args, **(kwargs or {}))


def count(rank: int, name: str, way: str, described: dict[str, Any], optimizer: str) -> dict[str, Any]:
    """Collectives of every step without and with a monitor, and its own messages."""
    messages = Counter[int]()
    steps: list[int] = []
    entered = peers.Peers._entered

    def counted(self: peers.Peers) -> Any:
        messages[len(steps)] += 1
        return entered(self)

    peers.Peers._entered = counted  # type: ignore[method-assign]
    out: dict[str, Any] = {}
    for monitored in (False, True):
        steps.clear()
        case = CASES[name]
        model = distributed(case.build(), way)
        chosen = optimizer_of(optimizer, model)
        found = nm.Symmetries.from_dict(described)
        with ExitStack() as stack:
            if monitored:
                options = {"residuals": True, "drives": True}
                stack.enter_context(nm.Monitor(model, chosen, found, every=EVERY, strict=True, **options))
            each = []
            for number in range(STEPS):
                steps.append(number + 1)
                with Collectives() as seen:
                    step(case, model, chosen, number, data_rank(name, way))
                each.append(dict(seen.seen))
            steps.append(STEPS + 1)
        out[f"{monitored}"] = each
        out[f"weights {monitored}"] = {key: whole(p).numpy() for key, p in model.named_parameters()}
    return out | {"messages": dict(messages)}


def trouble(rank: int, kind: str, described: dict[str, Any], store: Path) -> dict[str, Any]:
    """A training over two processes in which process 1 does something at the record of step 4."""
    case = CASES["llama"]
    model = distributed(case.build(), "fsdp")
    chosen = optimizer_of("heavy ball", model)
    found = nm.Symmetries.from_dict(described)
    # One that waits is waited for in vain; for any other nobody waits, however long they would.
    peers.PATIENCE = timedelta(seconds=30) if kind == "waits" else FOR_EVER
    stopped = store.with_name("stopped")
    if rank == 1:
        _act(kind, stopped)
    losses, failed = [], ""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            with nm.Monitor(model, chosen, found, store, every=EVERY) as monitor:
                for number in range(STEPS):
                    if kind == "raises" and rank == 1 and number == 5:
                        raise KeyError("one process stops")
                    losses.append(float(step(case, model, chosen, number, data_rank("llama", "fsdp"))))
                    if rank == 0 and monitor.failure is not None:
                        stopped.touch()
        except (RuntimeError, KeyError) as error:
            failed = f"{type(error).__name__}: {error}"
    return {
        "losses": losses,
        "failed": failed,
        "monitor": str(monitor.failure),
        "said": [str(w.message) for w in said if "monitor" in str(w.message)],
        "state": monitor.state_dict() if kind == "fails" else {},
    }


def _act(kind: str, stopped: Path) -> None:
    judge = Watchdog.judge

    def acting(self: Watchdog, *given: Any) -> Any:
        if kind == "dies":
            os._exit(9)
        if kind == "fails":
            raise RuntimeError("this process's monitor fails")
        if kind == "waits":
            while not stopped.exists():
                time.sleep(0.1)
        return judge(self, *given)

    Watchdog.judge = acting  # type: ignore[method-assign]


def all_resumed(
    rank: int, networks: list[tuple[str, str]], optimizer: str, described: dict[str, dict[str, Any]], folder: Path
) -> list[dict[str, Any]]:
    """Several trainings that are resumed from a saved state."""
    return [
        resumed(rank, *network, optimizer, described[network[0]], folder / "-".join(network), "state")
        for network in networks
    ]


def resumed(
    rank: int, name: str, way: str, optimizer: str, described: dict[str, Any], store: Path, how: str
) -> dict[str, Any]:
    """Seven steps, a checkpoint, one step that is lost, and the rest from the checkpoint in a new model."""
    case, found = CASES[name], nm.Symmetries.from_dict(described)
    part = data_rank(name, way)

    def build() -> tuple[Any, Any]:
        model = distributed(case.build(), way)
        return model, optimizer_of(optimizer, model)

    model, chosen = build()
    options: dict[str, Any] = {"every": EVERY, "residuals": True, "strict": True}
    with nm.Monitor(model, chosen, found, store, **options) as monitor:
        for number in range(7):
            step(case, model, chosen, number, part)
        state = monitor.state_dict()
        saved = {n: p.detach().clone() for n, p in model.state_dict().items()}
        moments = [{k: v.clone() for k, v in chosen.state[p].items()} for p in model.parameters()]
        step(case, model, chosen, 7, part)
    dist.barrier()
    model, chosen = build()
    model.load_state_dict(saved)
    for parameter, moment in zip(model.parameters(), moments, strict=True):
        chosen.state[parameter].update(moment)
    with nm.Monitor(model, chosen, found, store, resume=7 if how == "step" else True, **options) as monitor:
        if how == "state":
            monitor.load_state_dict(state)
        for number in range(7, STEPS):
            step(case, model, chosen, number, part)
    dist.barrier()
    return {n: v.values for n, v in monitor.run.data.variables.items()}
