"""Ensembles of small networks with exact symmetries, trained by torch.optim.SGD, every charge and drive measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from neuralmechanics.laws import DriveHistory, Drives, Hyperparameters

INPUTS, WIDE, NARROW, CLASSES = 4, 5, 4, 3
SHAPES = {
    "w1": (WIDE, INPUTS),
    "b1": (WIDE,),
    "gain": (WIDE,),
    "shift": (WIDE,),
    "w2": (NARROW, WIDE),
    "b2": (NARROW,),
    "w3": (CLASSES, NARROW),
    "b3": (CLASSES,),
}
# translations: pre-norm biases, columns of w3, b3; scales: rows of w1; rescales: affine | w2, w2 and b2 | w3
QUADRATIC = torch.tensor([False] * (WIDE + NARROW + 1) + [True] * (WIDE + WIDE + NARROW))
Params = dict[str, Tensor]


@dataclass(frozen=True)
class Trained:
    """Measured charges [steps+1, members*charges], their natural sizes at the start, and what the laws are fed."""

    charges: Tensor
    sizes: Tensor
    quadratic: Tensor
    history: DriveHistory
    losses: Tensor

    def error(self, predicted: Tensor) -> Tensor:
        """Largest distance over the run from the measured charge, per charge, relative to its initial size."""
        return ((predicted - self.charges).abs().amax(0) / self.sizes).reshape(-1, len(QUADRATIC))


def pair(a: Params, b: Params) -> Tensor:
    """The polarised charges of every member, [members, charges]: ⟨a,Mb⟩, for translations ⟨a,1_A⟩."""
    translations = [a["b1"], a["w3"].sum(1), a["b3"].sum(1, keepdim=True)]
    e = {name: a[name] * b[name] for name in SHAPES}
    scales = [e["w1"].sum(2)]
    rescales = [
        e["gain"] + e["shift"] - e["w2"].sum(1),
        e["w2"].sum(2) + e["b2"] - e["w3"].sum(1),
    ]
    return torch.cat(translations + scales + rescales, dim=1).flatten()


def sizes(a: Params) -> Tensor:
    """The sum of the absolute values of a charge's terms, so that a difference of large norms is judged fairly."""
    translations = [a["b1"].abs(), a["w3"].abs().sum(1), a["b3"].abs().sum(1, keepdim=True)]
    e = {name: a[name].square() for name in SHAPES}
    quadratic = [
        e["w1"].sum(2),
        e["gain"] + e["shift"] + e["w2"].sum(1),
        e["w2"].sum(2) + e["b2"] + e["w3"].sum(1),
    ]
    return torch.cat(translations + quadratic, dim=1).flatten()


def member_losses(p: Params, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Cross-entropy of linear → batch norm → affine → ReLU → linear → ReLU → linear, one a member."""
    z = torch.einsum("mhi,bi->mbh", p["w1"], x) + p["b1"][:, None]
    centred = z - z.mean(1, keepdim=True)
    normal = centred / (centred.square().mean(1, keepdim=True) + eps).sqrt()
    first = torch.relu(p["gain"][:, None] * normal + p["shift"][:, None])
    second = torch.relu(torch.einsum("mho,mbo->mbh", p["w2"], first) + p["b2"][:, None])
    logits = torch.einsum("mho,mbo->mbh", p["w3"], second) + p["b3"][:, None]
    return -logits.log_softmax(2).gather(2, y.expand(len(logits), -1)[..., None]).mean((1, 2))


Schedule = Callable[[int, int], Hyperparameters]


def train(members: int, steps: int, schedule: Schedule, *, eps: float = 0.0, seed: int = 0) -> Trained:
    """Train `members` networks at once, each by its own parameter group of one `torch.optim.SGD`.

    `schedule(step, member)` gives plain numbers; `first_step` there deletes the member's optimiser state,
    `active=False` takes its gradients away; the recorded `first_step` is torch's own.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    start = {name: draw(*shape) * 0.7 for name, shape in SHAPES.items()}
    whole = {name: t.expand(members, *t.shape).clone().requires_grad_() for name, t in start.items()}
    # the optimiser's parameters are each member's part of the same memory
    leaves = [{name: t.detach()[m].requires_grad_() for name, t in whole.items()} for m in range(members)]
    x, y = draw(64, INPUTS), torch.randint(CLASSES, (64,), generator=generator)
    optimizer = torch.optim.SGD([{"params": list(leaf.values())} for leaf in leaves], lr=0.1, foreach=True)

    def parameters() -> Params:
        return {name: t.detach().clone() for name, t in whole.items()}

    def buffer(leaf: Tensor) -> Tensor:
        kept = optimizer.state[leaf].get("momentum_buffer") if leaf in optimizer.state else None
        return torch.zeros_like(leaf) if kept is None else kept

    theta = parameters()
    charges, rows, hypers, losses = [pair(theta, theta)], [], [], []
    initial = sizes(theta)
    for step in range(steps):
        batch = torch.randint(64, (24,), generator=generator)
        plan = [schedule(step, member) for member in range(members)]
        loss = member_losses(whole, x[batch], y[batch], eps)
        gradient = dict(zip(SHAPES, torch.autograd.grad(loss.sum(), list(whole.values())), strict=True))
        for i, (leaf, hyper, group) in enumerate(zip(leaves, plan, optimizer.param_groups, strict=True)):
            if hyper.first_step:
                for tensor in leaf.values():
                    optimizer.state.pop(tensor, None)
            fresh = "momentum_buffer" not in optimizer.state.get(leaf["w1"], {})
            plan[i] = replace(hyper, first_step=fresh)
            group.update(
                lr=hyper.learning_rate,
                momentum=hyper.momentum,
                dampening=hyper.dampening,
                nesterov=hyper.nesterov,
                weight_decay=0.0 if hyper.decoupled else hyper.weight_decay,
            )
            for name, tensor in leaf.items():
                # a copy: foreach SGD under Nesterov without decay adds its buffer into the gradient in place
                tensor.grad = gradient[name][i].clone() if hyper.active else None
                if hyper.active and hyper.decoupled:
                    tensor.data.mul_(1 - hyper.learning_rate * hyper.weight_decay)
        optimizer.step()
        after = parameters()
        velocity = {name: torch.stack([buffer(leaf[name]) for leaf in leaves]) for name in SHAPES}
        update = {name: after[name] - theta[name] for name in SHAPES}
        rows.append(
            Drives(
                update_energy=pair(update, update),
                update_velocity=pair(update, velocity),
                residual=pair(gradient, theta),
                gradient_energy=pair(gradient, gradient),
                parameter_update=pair(update, theta),
                velocity_gradient=pair(velocity, gradient),
                velocity_energy=pair(velocity, velocity),
                decay=spread(plan).weight_decay * charges[-1],
            )
        )
        hypers.append(spread(plan))
        theta = after
        charges.append(pair(theta, theta))
        losses.append(loss.detach())
    measured = [name for name, value in vars(rows[0]).items() if value is not None]
    drives = Drives(**{name: torch.stack([getattr(row, name) for row in rows]) for name in measured})
    history = DriveHistory(charges[0], hypers, drives)
    return Trained(torch.stack(charges), initial, QUADRATIC.repeat(members), history, torch.stack(losses))


def spread(plan: Sequence[Hyperparameters]) -> Hyperparameters:
    """One entry a charge from one plan a member."""

    def entries(name: str) -> Tensor:
        values = [getattr(hyper, name) for hyper in plan]
        dtype = torch.bool if isinstance(values[0], bool) else torch.float64
        return torch.tensor(values, dtype=dtype).repeat_interleave(len(QUADRATIC))

    return Hyperparameters(**{name: entries(name) for name in vars(plan[0])})


MODES: dict[str, dict[str, float | bool]] = {
    "heavy ball": {},
    "dampening": {"dampening": 0.5},
    "nesterov": {"nesterov": True},
    "decoupled": {"decoupled": True},
}
GRID = [(mode, momentum, decay) for mode in MODES for momentum in (0.0, 0.5, 0.9, 0.99) for decay in (0.0, 1e-4, 1e-2)]


def grid_schedule(step: int, member: int) -> Hyperparameters:
    """Every mode × β × λ, constant, except for torch's refusal of Nesterov without momentum."""
    mode, momentum, decay = GRID[member]
    options = MODES[mode] if momentum or mode != "nesterov" else {}
    learning_rate = 0.05 * (1 - momentum) ** 0.5
    return Hyperparameters(learning_rate, decay, momentum, **options)


def eventful_schedule(step: int, member: int) -> Hyperparameters:
    """The grid with warm-up, a learning-rate drop, momentum to 0 and back, frozen spells, a new optimiser state."""
    hyper = grid_schedule(step, member)
    rate = hyper.learning_rate * min(1.0, (step + 1) / 50) * (0.1 if step >= 250 else 1.0)
    if 300 <= step < 320:  # torch keeps its buffer meanwhile
        hyper = replace(hyper, momentum=0.0, nesterov=False)
    elif 320 <= step < 400:
        hyper = replace(hyper, momentum=0.8)
    decay = hyper.weight_decay * (2.0 if step >= 150 else 1.0)
    return replace(
        hyper,
        learning_rate=0.0 if 100 <= step < 103 else rate,
        weight_decay=decay,
        first_step=step == 420,
        active=not (200 <= step < 207 and member % 2 == 0),
    )


@pytest.fixture(scope="session")
def grid() -> Trained:
    return train(len(GRID), 500, grid_schedule)


@pytest.fixture(scope="session")
def eventful() -> Trained:
    return train(len(GRID), 500, eventful_schedule)


@pytest.fixture(scope="session")
def broken() -> Trained:
    """A norm with a large eps: the scale charges are no longer conserved by the flow."""
    return train(len(GRID), 100, grid_schedule, eps=0.3)
