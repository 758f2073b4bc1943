"""Measures what each difference from the reference costs, and prints the numbers of `experiments.md`.

A ReLU network 64-32-10 in float64, 1,000 steps of batch 64; its 32 rescale charges (hidden units) are predicted from
the start, once by the exact law and once with one thing changed. Errors are the largest over charges and steps,
relative to |θ_A1|² + |θ_A2|² at the start. Overflow and the start of the oscillator are computed without a network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from neuralmechanics.laws import Drives, ExactLaw, FirstOrderLaw, Hyperparameters, Law, ModifiedFlowLaw
from neuralmechanics.laws.continuous.closed_forms import normal_form, oscillator_path

STEPS, BATCH = 1000, 64
Change = Callable[[int, Hyperparameters, Drives], tuple[Hyperparameters, Drives]]


def energy(first: Tensor, bias: Tensor, second: Tensor) -> Tensor:
    """|row|² + bias² - |column|² for every hidden unit."""
    return first.square().sum(1) + bias.square() - second.square().sum(0)


def worst(change: Change, law: Law | None = None, drop: bool = False, **sgd: Any) -> float:
    """Trains, feeds the law what `change` makes of each step, and scores it."""
    torch.manual_seed(0)
    images, targets = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    inputs = (images.double() / 16 - 0.3) / 0.38
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).double()
    moved = (model[0].weight, model[0].bias, model[2].weight)
    optimizer = torch.optim.SGD(model.parameters(), **sgd)
    group = optimizer.param_groups[0]
    start = [p.detach().clone() for p in moved]
    scale = energy(start[0], start[1], torch.zeros_like(start[2])) - energy(0 * start[0], 0 * start[1], start[2])
    law = law or ExactLaw()
    law.start(energy(*start))
    largest = 0.0
    for step in range(STEPS):
        if drop and step == STEPS // 2:
            group["lr"] *= 0.1
        chosen = torch.randint(len(inputs), (BATCH,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
        before = [p.detach().clone() for p in moved]
        raw = energy(*(p.grad for p in moved))
        optimizer.step()
        updates = [p.detach() - q for p, q in zip(moved, before, strict=True)]
        buffers = [optimizer.state[p].get("momentum_buffer") for p in moved]
        velocity = None
        if buffers[0] is not None:
            products = [d * v for d, v in zip(updates, buffers, strict=True)]
            velocity = products[0].sum(1) + products[1] - products[2].sum(0)
        used = Hyperparameters(
            group["lr"],
            group["weight_decay"],
            group["momentum"],
            group["dampening"],
            nesterov=group["nesterov"],
            first_step=step == 0,
        )
        law.step(*change(step, used, Drives(energy(*updates), velocity, gradient_energy=raw)))
        error = (law.value - energy(*(p.detach() for p in moved))).abs() / scale
        largest = max(largest, error.max().item())
    return largest


def as_it_is(step: int, hyper: Hyperparameters, drives: Drives) -> tuple[Hyperparameters, Drives]:
    """What really happened."""
    return hyper, drives


def undampened(step: int, hyper: Hyperparameters, drives: Drives) -> tuple[Hyperparameters, Drives]:
    """Dampening forgotten."""
    return replace(hyper, dampening=0.0), drives


def dampened_first(step: int, hyper: Hyperparameters, drives: Drives) -> tuple[Hyperparameters, Drives]:
    """Torch's undampened first step forgotten."""
    return replace(hyper, first_step=False), drives


def heavy_ball(step: int, hyper: Hyperparameters, drives: Drives) -> tuple[Hyperparameters, Drives]:
    """Nesterov taken for heavy ball."""
    return replace(hyper, nesterov=False), Drives(drives.update_energy)


def never_dropped(rate: float) -> Change:
    """The learning rate of the first step kept for good."""

    def change(step: int, hyper: Hyperparameters, drives: Drives) -> tuple[Hyperparameters, Drives]:
        return replace(hyper, learning_rate=rate), drives

    return change


def from_gradient(step: int, hyper: Hyperparameters, drives: Drives) -> tuple[Hyperparameters, Drives]:
    """|d|² replaced by η²|g|²/(1-β)²."""
    assert drives.gradient_energy is not None
    factor = (float(hyper.learning_rate) / (1 - float(hyper.momentum))) ** 2
    return hyper, Drives(factor * drives.gradient_energy)


def undamped_drive(step: int, hyper: Hyperparameters, drives: Drives) -> tuple[Hyperparameters, Drives]:
    """θ' taken as the direction v instead of v/(1-α): |d|² times (1-α)²."""
    assert drives.update_energy is not None
    return hyper, Drives((1 - float(hyper.dampening)) ** 2 * drives.update_energy)


def from_update(step: int, hyper: Hyperparameters, drives: Drives) -> tuple[Hyperparameters, Drives]:
    """The applied direction g + λθ in place of the gradient in the first-order law."""
    assert drives.update_energy is not None
    return hyper, Drives(gradient_energy=drives.update_energy / float(hyper.learning_rate) ** 2)


def overflow(momentum: float, learning_rate: float) -> int:
    """The step at which e^{2γt}, by which the drive is weighted inside ∫e^{2γs}…ds, is no longer finite in float32."""
    per_step = normal_form(Hyperparameters(learning_rate, 1e-3, momentum), quadratic=True).damping * learning_rate
    growth = torch.exp(2 * per_step * torch.arange(100_000, dtype=torch.float64)).float()
    return int(growth.isfinite().sum())


def start_of_oscillator(momentum: float) -> tuple[float, float]:
    """Largest error of a sum's modified flow started at rest, and at -λq/(1+β), relative to its start; 2,000 steps."""
    hyper = Hyperparameters(0.1, 1e-3, momentum)
    law = ExactLaw(torch.tensor([False]))
    law.start(torch.ones(1, dtype=torch.float64))
    exact = [1.0]
    for step in range(2000):
        law.step(replace(hyper, first_step=step == 0), Drives())
        exact.append(law.value.item())
    form = normal_form(hyper, quadratic=False)
    times = 0.1 * torch.arange(2001, dtype=torch.float64)
    wanted = torch.tensor(exact, dtype=torch.float64)
    at_rest, moving = (oscillator_path(times, 1.0, f) for f in (replace(form, slope0=0.0), form))
    return float((at_rest - wanted).abs().max()), float((moving - wanted).abs().max())


def main() -> None:
    """Prints the table."""
    usual = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
    rows = [
        ("dampening .5 left out", {**usual, "dampening": 0.5}, undampened, False),
        ("dampening .5 on torch's first step too", {**usual, "dampening": 0.5}, dampened_first, False),
        ("learning-rate drop left out", usual, never_dropped(usual["lr"]), True),
        ("Nesterov taken for heavy ball", {**usual, "nesterov": True}, heavy_ball, False),
        ("drive from \\|g\\|²/(1 − β)²", usual, from_gradient, False),
    ]
    print("| changed | exact law | changed law |\n|---|---|---|")
    for name, sgd, change, drop in rows:
        print(f"| {name} | {worst(as_it_is, drop=drop, **sgd):.1e} | {worst(change, drop=drop, **sgd):.1e} |")
    print(f"\nmodified flow, same run: {worst(as_it_is, ModifiedFlowLaw(), **usual):.1e}")
    for dampening in (0.01, 0.5):
        damped = {**usual, "dampening": dampening}
        wrong = worst(undamped_drive, ModifiedFlowLaw(), **damped)
        right = worst(as_it_is, ModifiedFlowLaw(), **damped)
        print(f"modified flow, α = {dampening}: drive from v {wrong:.1e}, from v/(1-α) {right:.1e}")
    for decay in (1e-3, 1e-1):
        plain = {"lr": 0.05, "weight_decay": decay}
        right, wrong = worst(as_it_is, FirstOrderLaw(), **plain), worst(from_update, FirstOrderLaw(), **plain)
        print(f"first order, β = 0, λ = {decay}: drive from g {right:.1e}, from g + λθ {wrong:.1e}")
    for momentum in (0.9, 0.99):
        steps = [overflow(momentum, rate) for rate in (0.1, 0.001)]
        print(f"β = {momentum}: float32 overflows at step {steps[0]} for η = .1, {steps[1]} for η = .001")
        at_rest, moving = start_of_oscillator(momentum)
        print(f"β = {momentum}: started at rest {at_rest:.1e}, at -λq/(1+β) {moving:.1e}")


if __name__ == "__main__":
    main()
