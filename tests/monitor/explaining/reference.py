"""The budget of a training by its definition: copies of everything at every step, and one product a part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from tests.monitor.conftest import Training, loss_fn
from torch import Tensor

Named = dict[str, Tensor]


@dataclass
class Books:
    """The sums of each part over all steps, float64 [charges]."""

    training: Training
    optimizers: list[torch.optim.Optimizer]
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, part: str, a: Named, b: Named, weights: dict[str, float], *, energy: bool = False) -> None:
        """Σ_p w_p p ⟨a_p,b_p⟩, with p = 2 for quadratic charges; energies once, and not at translations."""
        found = self.training.symmetries
        scaled = {n: t * weights.get(n, 0.0) for n, t in a.items()}
        value = found.pair(scaled, b)
        linear = found.pair(scaled, {n: torch.ones_like(t) for n, t in b.items()})
        right = torch.where(found.quadratic, value * (1 if energy else 2), 0.0 if energy else linear)
        self.sums[part] = self.sums.get(part, torch.zeros_like(right)) + right


def values(training: Training) -> Named:
    """The parameters of the charges now, in double precision."""
    named = dict(training.model.named_parameters())
    return {n: named[n].detach().double().clone() for n in training.symmetries.parameters}


def groups(optimizers: list[torch.optim.Optimizer], training: Training) -> dict[str, tuple[Any, dict[str, Any]]]:
    """The optimiser and the group of each parameter."""
    names = {id(p): n for n, p in training.model.named_parameters()}
    return {names[id(p)]: (o, g) for o in optimizers for g in o.param_groups for p in g["params"]}


def sgd_books(
    training: Training,
    optimizers: list[torch.optim.Optimizer],
    steps: range,
    before_step: Callable[[int], None] = lambda step: None,
    after_step: Callable[[int], None] = lambda step: None,
) -> Books:
    """Train with SGD alone and keep its books: each part by its formula from copies of θ, g and v."""
    books = Books(training, optimizers)
    named = dict(training.model.named_parameters())
    for step in steps:
        loss = loss_fn(training.model, training.batch(step))
        training.model.zero_grad()
        loss.backward()
        before_step(step)
        at, owners = values(training), groups(optimizers, training)
        speed = {n: _velocity(owners, named, n) for n in at}
        first = {n: v is None for n, v in speed.items()}
        slope = {n: torch.zeros_like(t) if named[n].grad is None else named[n].grad.double() for n, t in at.items()}
        slope = {
            n: -g if n in owners and owners[n][1]["maximize"] else g for n, g in slope.items()
        }  # what is descended
        zero = {n: torch.zeros_like(t) for n, t in at.items()}
        for optimizer in optimizers:
            optimizer.step()
        moved = {n: t - at[n] for n, t in values(training).items()}
        live = {n: named[n].grad is not None and n in owners for n in at}
        η, λ, β, gain, nesterov = ({n: _number(owners, n, k, first) for n in at} for k in range(5))
        factor = {n: η[n] * (1 + β[n] if nesterov[n] else gain[n]) * live[n] for n in at}
        books.add("finite_step", moved, moved, dict.fromkeys(at, 1.0), energy=True)
        books.add("weight_decay", at, at, {n: -factor[n] * λ[n] for n in at})
        kept = {n: -η[n] * (β[n] ** 2 if nesterov[n] else β[n]) * live[n] for n in at}
        books.add("momentum_memory", {n: zero[n] if v is None else v for n, v in speed.items()}, at, kept)
        books.add("broken_symmetry", slope, at, {n: -factor[n] for n in at})
        after_step(step)
    return books


def _velocity(owners: Any, named: dict[str, Any], name: str) -> Tensor | None:
    buffer = owners[name][0].state.get(named[name], {}).get("momentum_buffer") if name in owners else None
    return None if buffer is None else buffer.detach().double().clone()


def _number(owners: Any, name: str, which: int, first: dict[str, bool]) -> float:
    if name not in owners:
        return 0.0
    group = owners[name][1]
    β = float(group["momentum"])
    gain = 1.0 if first[name] or β == 0 else 1 - float(group["dampening"])
    return (float(group["lr"]), float(group["weight_decay"]), β, gain, float(group["nesterov"]))[which]
