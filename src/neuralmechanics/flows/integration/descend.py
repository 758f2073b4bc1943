"""The real optimiser, run on the same loss from the same start and recorded like a flow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from neuralmechanics.flows.equation.charges import Charges
from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss
from neuralmechanics.flows.integration.guard import Guard
from neuralmechanics.flows.integration.path import Path
from neuralmechanics.flows.integration.recorder import Recorder, Visit, follow
from neuralmechanics.flows.models.schedule import Schedule
from neuralmechanics.optimizers.closures import require_plain_step
from neuralmechanics.optimizers.hyperparameters.bounds import require_whole
from neuralmechanics.optimizers.hyperparameters.sgd import Sgd
from neuralmechanics.progress import Meter

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
    require_whole("steps", steps, 1)
    require_whole("every", every, 1)
    if not callable(optimizer):
        raise TypeError(
            f"the optimizer is a {type(optimizer).__name__}; give a function of a list of tensors that makes one, such "
            "as lambda params: torch.optim.SGD(params, lr=0.1)"
        )
    layout = Layout.of(theta0)
    start = layout.flatten(theta0)
    leaves = {name: value.clone().requires_grad_(True) for name, value in layout.unflatten(start).items()}
    chosen = optimizer(list(leaves.values()))
    require_plain_step(chosen)
    guard = Guard(steps, start, max_size)
    recorder = Recorder(loss, type(chosen).__name__, layout, symmetries)

    def visits() -> Iterator[Visit]:
        yield Visit(0.0, guard.accept(start), 0.0)
        time = 0.0
        for step in range(1, steps + 1):
            if schedule is not None:
                # Set before each step, as a scheduler of torch would have left it.
                for group in chosen.param_groups:
                    group["lr"] = schedule.learning_rate(step - 1)
            _take_step(loss, leaves, chosen)
            # Read after the step: an optimiser may set its own rate in it.
            time += _common_step(chosen)
            guard.evaluations += 1
            recorded = step % every == 0 or step == steps
            # The optimiser is the thing that is compared with, so its error is zero by definition.
            yield Visit(time, guard.accept(layout.flatten(leaves)) if recorded else None, 0.0)

    return follow(visits(), recorder, guard, steps=steps, meter=meter, completed="all steps taken")


def _take_step(loss: Loss, leaves: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    with torch.enable_grad():
        loss(dict(leaves)).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _common_step(optimizer: torch.optim.Optimizer) -> float:
    """h of all parameter groups; ValueError where they differ: no one time would be that of every parameter."""
    steps = {natural_step(group) for group in optimizer.param_groups}
    if len(steps) > 1:
        raise ValueError(
            f"the parameter groups take steps of different lengths ({', '.join(f'{h:g}' for h in sorted(steps))}), so "
            "that no one time is that of the path; give all groups one learning rate, momentum and dampening"
        )
    return steps.pop()


def natural_step(group: Mapping[str, Any]) -> float:
    """h of one step of a parameter group: η(1-α) with momentum, else η."""
    rate = float(group["lr"])
    if not math.isfinite(rate) or rate <= 0:
        raise ValueError(f"the optimiser's learning rate is {rate}, expected a finite number above 0")
    momentum, dampening = (float(group.get(name, 0.0)) for name in ("momentum", "dampening"))
    return Sgd(rate, momentum=momentum, dampening=dampening).time_step
