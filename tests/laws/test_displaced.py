"""Charges of θ + c: weight decay pulls θ alone, and the exact law reads what it does to the charge (theory 3.3b)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from neuralmechanics.laws import DriveHistory, Drives, ExactLaw, Hyperparameters, ModifiedFlowLaw, replay

ROUNDING = 1e-13
RATE, DECAY, CONSTANT = 0.05, 0.2, torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
MODES = {
    "plain": Hyperparameters(RATE, DECAY),
    "heavy ball": Hyperparameters(RATE, DECAY, 0.9),
    "dampened": Hyperparameters(RATE, DECAY, 0.9, dampening=0.4),
    "nesterov": Hyperparameters(RATE, DECAY, 0.8, nesterov=True),
    "strong": Hyperparameters(RATE, 25.0, 0.2),
    "decoupled": Hyperparameters(RATE, DECAY, 0.9, decoupled=True),
    "decoupled nesterov": Hyperparameters(RATE, DECAY, 0.7, nesterov=True, decoupled=True),
}


@dataclass(frozen=True)
class Trained:
    """(c + w)² - |column|² of three channels [steps+1, 3], its size, and what the laws are fed."""

    charges: Tensor
    sizes: Tensor
    history: DriveHistory


def loss(w: Tensor, v: Tensor, generator: torch.Generator) -> Tensor:
    """Of a minibatch that reads the channels through (c + w) and then through the columns of v."""
    x = torch.randn(7, 3, dtype=torch.float64, generator=generator)
    y = torch.randn(7, 2, dtype=torch.float64, generator=generator)
    return (torch.tanh((x * (CONSTANT + w)) @ v.T) - y).square().mean()


def trained(hyper: Hyperparameters, steps: int) -> Trained:
    """SGD written out, every drive measured from parameters and buffers before and after."""
    generator = torch.Generator().manual_seed(0)
    w, v = torch.zeros(3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64, generator=generator)
    buffers: list[Tensor] | None = None
    charges, rows, hypers = [], [], []

    def paired(p: list[Tensor], q: list[Tensor]) -> Tensor:
        return p[0] * q[0] - (p[1] * q[1]).sum(0)

    def point() -> list[Tensor]:
        return [CONSTANT + w, v]

    charges.append(paired(point(), point()))
    sizes = (CONSTANT + w).square() + v.square().sum(0)
    for _ in range(steps):
        leaves = [w.clone().requires_grad_(), v.clone().requires_grad_()]
        gradients = list(torch.autograd.grad(loss(*leaves, generator), leaves))
        decay = [float(hyper.weight_decay) * p for p in (w, v)]
        pulled = gradients if hyper.decoupled else [g + d for g, d in zip(gradients, decay, strict=True)]
        gain = 1.0 if buffers is None else 1 - float(hyper.dampening)
        old = buffers or [torch.zeros_like(p) for p in (w, v)]
        fresh = buffers is None
        new = (
            [float(hyper.momentum) * b + gain * g for b, g in zip(old, pulled, strict=True)]
            if hyper.momentum
            else pulled
        )
        buffers = new if hyper.momentum else None
        used = [g + float(hyper.momentum) * b for g, b in zip(pulled, new, strict=True)] if hyper.nesterov else new
        before = point()
        rate = float(hyper.learning_rate)
        moved = [-rate * (u + (d if hyper.decoupled else 0)) for u, d in zip(used, decay, strict=True)]
        rows.append(
            Drives(
                update_energy=paired(moved, moved),
                update_velocity=paired(moved, new) if hyper.momentum else torch.zeros(3, dtype=torch.float64),
                decay=paired(decay, before),
            )
        )
        hypers.append(
            replace(hyper, weight_decay=torch.full((3,), torch.nan), first_step=fresh and hyper.momentum != 0)
        )
        w, v = w + moved[0], v + moved[1]
        charges.append(paired(point(), point()))
    drives = Drives(
        **{n: torch.stack([getattr(r, n) for r in rows]) for n in ("update_energy", "update_velocity", "decay")}
    )
    return Trained(torch.stack(charges), sizes, DriveHistory(charges[0], hypers, drives))


@pytest.mark.parametrize("mode", MODES)
def test_exact_for_every_mode(mode: str) -> None:
    run = trained(MODES[mode], 300)
    error = (replay(ExactLaw(), run.history) - run.charges).abs() / torch.maximum(run.sizes, run.charges.abs().amax(0))
    assert error.max() < ROUNDING
    assert ((run.charges[-1] - run.charges[0]).abs() / run.sizes).max() > 0.05


@pytest.mark.parametrize("mode", ["plain", "heavy ball", "dampened"])
def test_what_is_measured_is_the_charge_without_its_part_linear_in_the_constant(mode: str) -> None:
    """λ(X - Y) with Y = ⟨c, c + w⟩, as the theory has it; taken for λX the law is off by a tenth."""
    run = trained(MODES[mode], 300)
    even = [replace(hyper, weight_decay=DECAY) for hyper in run.history.hyperparameters]
    wrong = replay(ExactLaw(), replace(run.history, hyperparameters=even))
    assert ((wrong - run.charges).abs() / run.sizes).max() > 0.1
    # With Y carried by plain sums of ⟨c, d⟩ the same charges come out.
    size = run.charges.shape[1]
    w = torch.zeros(size, dtype=torch.float64)
    assert run.history.drives.decay is not None
    first = DECAY * (run.charges[0] - CONSTANT * (CONSTANT + w))
    assert torch.allclose(run.history.drives.decay[0], first, rtol=1e-14, atol=1e-15)


def test_heavy_ball_needs_no_velocity_and_decoupled_decay_is_nan_without_it() -> None:
    for mode, known in (("heavy ball", True), ("decoupled", False)):
        run = trained(MODES[mode], 50)
        history = replace(run.history, drives=replace(run.history.drives, update_velocity=None))
        predicted = replay(ExactLaw(), history)
        if known:
            assert ((predicted - run.charges).abs() / run.sizes).max() < ROUNDING
        else:
            assert predicted[2:].isnan().all()


def test_laws_of_one_rate_have_no_number_there() -> None:
    run = trained(MODES["heavy ball"], 10)
    assert replay(ModifiedFlowLaw(), run.history)[1:].isnan().all()
