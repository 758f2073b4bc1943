"""The second-order modified flow: descent as a massive particle with friction."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss, Objective
from neuralmechanics.flows.equation.system import Field, System
from neuralmechanics.flows.models.descent import initial_speed
from neuralmechanics.flows.models.schedule import Schedule
from neuralmechanics.optimizers.hyperparameters.sgd import Sgd

__all__ = ["inertial_system"]


def inertial_system(
    loss: Loss, theta0: Mapping[str, Tensor], sgd: Sgd[float], *, schedule: Schedule, at_rest: bool = False
) -> System:
    """(h/2)(1+β)θ'' + (1-β)θ' = -G, G = g + λθ; Nesterov adds -ηβ dG/dt. State (θ, θ').

    It starts with θ'(0) = -G_0/(1+β) (heavy ball), -(1+2β)G_0/(1+β) (Nesterov), or -(1+α)G_0/((1-α)(1+β)) with
    dampening, because torch takes its first step undampened. ``at_rest=True`` starts with θ'(0) = 0, which is wrong
    at first order and kept to show it. Where the ``schedule`` changes the rate, mass changes and (θ, θ') goes on: torch
    keeps its buffer, and θ' = -v/(1-α) knows no rate. Global error O(h²). Source: Kunin et al. 2021, section 5.
    """
    layout = Layout.of(theta0)
    objective = Objective(loss, layout, sgd.weight_decay)
    friction = 1 - sgd.momentum
    start = objective.require(layout.flatten(theta0), 2 if sgd.nesterov else 1)
    speed = torch.zeros_like(start) if at_rest else -initial_speed(sgd) * objective.gradient(start)
    shrink = sgd.time_step / sgd.learning_rate

    def field_at(time_step: float) -> Field:
        mass = time_step * (1 + sgd.momentum) / 2

        def field(state: Tensor) -> Tensor:
            position, motion = torch.split(state, layout.size)
            if sgd.nesterov:
                slope, change = objective.gradient_and_product(position, motion)
                force = -slope - time_step * sgd.momentum * change
            else:
                force = -objective.gradient(position)
            return torch.cat([motion, (force - friction * motion) / mass])

        return field

    # Pieces are laid out in natural time, h = η(1-α) a step.
    natural = Schedule(tuple((steps, rate * shrink) for steps, rate in schedule.pieces))
    # The initial layer lasts h(1+β)/(2(1-β)): a quarter of h resolves it for every β.
    return System(layout, torch.cat([start, speed]), natural.fields(field_at), sgd.time_step / 4)
