"""Which flows model a given optimiser: read off its parameter groups."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from neuralmechanics.flows.equation.objective import Loss
from neuralmechanics.flows.equation.system import Flow
from neuralmechanics.flows.models.adam_rmsprop import AdamFlow, RMSpropFlow
from neuralmechanics.flows.models.gradient_flow import GradientFlow, MomentumFlow
from neuralmechanics.flows.models.modified_flow import ModifiedFlow
from neuralmechanics.flows.models.modified_loss import ModifiedLoss
from neuralmechanics.optimizers.hyperparameters.sgd import Sgd

__all__ = ["matching_flows"]

_UNMODELLED = ("maximize", "amsgrad", "centered")


def matching_flows(loss: Loss, optimizer: torch.optim.Optimizer) -> dict[str, Flow]:
    """The continuous models of ``optimizer``, by label, with its own hyperparameters.

    SGD: gradient flow, modified loss, second-order modified flow and series of order 2 (and 4 without momentum).
    Adam, AdamW and RMSprop: their equation with and without its correction. Anything else is refused.
    """
    group = _single_group(optimizer)
    for name in _UNMODELLED:
        if group.get(name):
            raise ValueError(f"{type(optimizer).__name__} with {name}=True has no flow here: pass flows= yourself")
    if isinstance(optimizer, torch.optim.SGD):
        found = _for_sgd(loss, group)
    elif isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
        found = _for_adam(loss, group, type(optimizer) is torch.optim.AdamW)
    elif isinstance(optimizer, torch.optim.RMSprop) and not group["momentum"]:
        found = [
            RMSpropFlow(
                loss,
                learning_rate=group["lr"],
                smoothing=group["alpha"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                correction=correction,
            )
            for correction in (False, True)
        ]
    else:
        raise ValueError(f"no flow models {type(optimizer).__name__} with {group}: pass flows= yourself")
    return {flow.label: flow for flow in found}


def _single_group(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    if any(group != groups[0] for group in groups[1:]):
        raise ValueError("the optimiser's parameter groups differ in hyperparameters: the flows model one setting")
    return groups[0]


def _for_sgd(loss: Loss, group: dict[str, Any]) -> list[Flow]:
    momentum, decay = group["momentum"], group["weight_decay"]
    sgd = Sgd(group["lr"], decay, momentum, group["dampening"] if momentum else 0.0, group["nesterov"])
    plain: Flow = (
        MomentumFlow(loss, momentum=momentum, weight_decay=decay, time_step=sgd.time_step)
        if momentum
        else GradientFlow(loss, weight_decay=decay, time_step=sgd.time_step)
    )
    settings = asdict(sgd)
    del settings["decoupled"]
    # With momentum the start of the slow motion is known to O(h²), so a higher order gains nothing.
    orders = (2,) if momentum else (2, 4)
    series = [ModifiedFlow(loss, order=order, **settings) for order in orders]
    return [plain, ModifiedLoss(loss, **settings), ModifiedFlow(loss, **settings), *series]


def _for_adam(loss: Loss, group: dict[str, Any], decoupled: bool) -> list[Flow]:
    return [
        AdamFlow(
            loss,
            learning_rate=group["lr"],
            betas=tuple(group["betas"]),
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            # Older versions of torch do not write it into the group.
            decoupled=bool(group.get("decoupled_weight_decay", decoupled)),
            correction=correction,
        )
        for correction in (False, True)
    ]
