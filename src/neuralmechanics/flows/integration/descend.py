"""The real optimiser, run on the same loss from the same start and recorded like a flow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss
from neuralmechanics.flows.integration.guard import Guard, Halt
from neuralmechanics.flows.integration.path import Charges, Path, StopReason
from neuralmechanics.flows.integration.recorder import Recorder
from neuralmechanics.flows.models.schedule import Schedule
from neuralmechanics.progress import Meter, SilentMeter

__all__ = ["OptimizerFactory", "descend", "natural_step"]

OptimizerFactory = Callable[[list[Tensor]], torch.optim.Optimizer]


def descend(
    loss: Loss,
    theta0: Mapping[str, Tensor],
    optimizer: OptimizerFactory,
    steps: int,
    symmetries: Charges | None = None,
    *,
    every: int = 1,
    schedule: Schedule | None = None,
    max_size: float | None = None,
    meter: Meter | None = None,
) -> Path:
    """``steps`` steps of ``optimizer(list of float64 tensors)``, recorded every so many at the time t = Σ h.

    h = η(1-α) for SGD with momentum, else η, read at each step; ``schedule`` sets η. Ends early, with the reason in
    the path, when the parameters are no longer finite or run away.
    """
    if steps < 1 or every < 1:
        raise ValueError(f"steps={steps}, every={every}: both must be 1 or more")
    layout = Layout.of(theta0)
    start = layout.flatten(theta0)
    leaves = {name: value.clone().requires_grad_(True) for name, value in layout.unflatten(start).items()}
    chosen = optimizer(list(leaves.values()))
    label = type(chosen).__name__
    bound = max_size if max_size is not None else 1e6 * (1 + float(start.abs().max()))
    guard, recorder, listener = Guard(steps, bound), Recorder(loss, label, layout, symmetries), meter or SilentMeter()
    listener.start(steps, label)
    reason, message, time = StopReason.COMPLETED, "all steps taken", 0.0
    try:
        recorder.record(0.0, guard.accept(start), 0.0)
        for step in range(1, steps + 1):
            if schedule is not None:
                for group in chosen.param_groups:
                    group["lr"] = schedule.learning_rate(step - 1)
            _take_step(loss, leaves, chosen)
            time += natural_step(chosen.param_groups[0])
            guard.evaluations += 1
            if step % every == 0 or step == steps:
                recorder.record(time, guard.accept(layout.flatten(leaves)), 0.0)
            listener.advance(1)
    except Halt as halt:
        reason, message = halt.reason, halt.message
    except StopIteration:
        reason, message = StopReason.STOPPED, "the meter asked to stop"
    finally:
        listener.finish()
    return recorder.path(guard.evaluations, reason, message)


def _take_step(loss: Loss, leaves: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    with torch.enable_grad():
        loss(dict(leaves)).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def natural_step(group: Mapping[str, Any]) -> float:
    """h of one step of a parameter group: η(1-α) with momentum, else η."""
    rate = float(group["lr"])
    if not math.isfinite(rate) or rate <= 0:
        raise ValueError(f"the optimiser's learning rate is {rate}, expected a finite number above 0")
    return rate * (1 - float(group.get("dampening", 0.0))) if group.get("momentum", 0.0) else rate
