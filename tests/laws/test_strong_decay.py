"""Strong decay: the exact law stays exact wherever the training is stable, and says where it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from neuralmechanics.laws import DriveHistory, Drives, ExactLaw, Hyperparameters, decay_strength, replay

ROUNDING = 1e-12  # of the largest that the charges have been: near its bound the training itself makes them grow
RATE = 0.1
MODES = {
    "heavy ball": Hyperparameters(RATE),
    "dampening": Hyperparameters(RATE, dampening=0.3),
    "nesterov": Hyperparameters(RATE, nesterov=True),
    "decoupled": Hyperparameters(RATE, decoupled=True),
    "decoupled nesterov": Hyperparameters(RATE, nesterov=True, decoupled=True),
}


@dataclass(frozen=True)
class Trained:
    """Charges [steps+1, 2] of a scale-invariant vector and of a rescaled pair, and what the laws are fed."""

    charges: Tensor
    history: DriveHistory


def gradients(w: Tensor, a: Tensor, b: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Of a minibatch loss of w/|w| and aᵀb-like products a_i b_i: w a scale charge, (a, b) a rescale charge."""
    x = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    y = torch.randn(6, dtype=torch.float64, generator=generator)
    leaves = [t.detach().clone().requires_grad_() for t in (w, a, b)]
    loss = (torch.tanh(x @ leaves[0] / leaves[0].norm()) - y).square().mean()
    loss = loss + (torch.tanh(x @ torch.outer(leaves[1], leaves[2]).sum(1)) - y).square().mean()
    return list(torch.autograd.grad(loss, leaves))


def pair(p: list[Tensor], q: list[Tensor]) -> Tensor:
    return torch.stack([p[0] @ q[0], p[1] @ q[1] - (p[2] @ q[2])])


def train(plan: list[Hyperparameters]) -> Trained:
    """`torch.optim.SGD` under `plan`, every drive measured from parameters and buffers kept before and after."""
    generator = torch.Generator().manual_seed(0)
    params = [torch.randn(4, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(3)]
    optimizer = torch.optim.SGD(params, lr=RATE, foreach=False)
    zero = [torch.zeros(4, dtype=torch.float64)] * 3
    charges, rows, hypers = [pair(params, params).detach()], [], []
    for hyper in plan:
        theta = [p.detach().clone() for p in params]
        g = gradients(*theta, generator)
        fresh = "momentum_buffer" not in optimizer.state.get(params[0], {})
        optimizer.param_groups[0].update(
            lr=hyper.learning_rate,
            momentum=hyper.momentum,
            dampening=hyper.dampening,
            nesterov=hyper.nesterov,
            weight_decay=0.0 if hyper.decoupled else hyper.weight_decay,
        )
        for p, gradient in zip(params, g, strict=True):
            p.grad = gradient.clone()
            if hyper.decoupled:
                p.data.mul_(1 - hyper.learning_rate * hyper.weight_decay)
        optimizer.step()
        after = [p.detach().clone() for p in params]
        d = [new - old for new, old in zip(after, theta, strict=True)]
        v = zero if fresh and hyper.momentum == 0 else [optimizer.state[p]["momentum_buffer"].clone() for p in params]
        rows.append(
            Drives(
                update_energy=pair(d, d),
                update_velocity=pair(d, v),
                residual=pair(g, theta),
                gradient_energy=pair(g, g),
                parameter_update=pair(d, theta),
                velocity_gradient=pair(v, g),
                velocity_energy=pair(v, v),
                decay=hyper.weight_decay * pair(theta, theta),
            )
        )
        hypers.append(replace(hyper, first_step=fresh and hyper.momentum != 0))
        charges.append(pair(after, after))
    measured = [name for name, value in vars(rows[0]).items() if value is not None]
    drives = Drives(**{name: torch.stack([getattr(row, name) for row in rows]) for name in measured})
    return Trained(torch.stack(charges), DriveHistory(charges[0], hypers, drives))


def error(run: Trained, law: ExactLaw) -> float:
    largest = run.charges.abs().amax(1).cummax(0).values
    return float(((replay(law, run.history) - run.charges).abs().amax(1) / largest).max())


def limit(hyper: Hyperparameters) -> float:
    """The weight decay beyond which training itself diverges, from the root of its own map at -1."""
    β, a = hyper.momentum, 1 - hyper.dampening if hyper.momentum else 1.0
    if hyper.decoupled:
        return 2 / RATE
    return 2 * (1 + β) / (RATE * (1 + 2 * β if hyper.nesterov and β else a))


@pytest.mark.parametrize("momentum", [0.0, pytest.param(0.5, marks=pytest.mark.slow), 0.9, 0.99])
@pytest.mark.parametrize("mode", MODES)
def test_exact_up_to_where_training_diverges(mode: str, momentum: float) -> None:
    if momentum == 0.0 and "nesterov" in mode:
        pytest.skip("torch refuses Nesterov without momentum")
    base = replace(MODES[mode], momentum=momentum)
    largest = 0.0
    # at β = .99 the last thousandth is left out: training itself amplifies the rounding of its parameters by 1e4
    for part in (0.45, 0.8, 0.97) if momentum == 0.99 else (0.45, 0.8, 0.97, 0.999):
        hyper = replace(base, weight_decay=part * limit(base))
        undampened = 0.9 * limit(replace(base, dampening=0.0))  # torch's first step does not know of dampening
        run = train([replace(hyper, weight_decay=min(hyper.weight_decay, undampened))] + [hyper] * 100)
        assert run.charges.abs().max() < 1e4 * run.charges[0].abs().max()  # training is stable
        for measured in (False, True):
            largest = max(largest, error(run, ExactLaw(measured_residual=measured)))
    assert largest < ROUNDING


def test_the_law_without_the_third_state_would_grow() -> None:
    """What is carried matters: the recursion with measured W amplifies its rounding beyond strength 1."""
    hyper = Hyperparameters(RATE, weight_decay=16.0, momentum=0.2)
    run = train([hyper] * 200)
    X, C = run.charges[0].clone(), torch.zeros(2, dtype=torch.float64)
    for k, W in enumerate(run.history.drives.update_energy):
        x = (hyper.momentum * C if k else 0.0) + hyper.weight_decay * X
        X, C = X - 2 * RATE * x + W, x - W / RATE
    assert (X - run.charges[-1]).abs().max() > 1e6 * run.charges.abs().max()
    assert error(run, ExactLaw()) < ROUNDING


@pytest.mark.parametrize("mode", MODES)
def test_a_schedule_that_comes_and_goes_is_exact(mode: str) -> None:
    """Strong decay every other step, in spells, with momentum away and back, and after a new start of the buffer."""
    base = replace(MODES[mode], momentum=0.6)
    strong, weak = (replace(base, weight_decay=part * limit(base)) for part in (0.75, 0.05))
    still = replace(strong, momentum=0.0, nesterov=False, dampening=0.0, weight_decay=15.0)
    plan = [weak] * 5 + [strong, weak] * 20 + [strong] * 30 + [still] * 5 + [strong] * 20 + [weak] * 10 + [strong] * 30
    run = train(plan)
    assert error(run, ExactLaw()) < ROUNDING
    assert error(run, ExactLaw(measured_residual=True)) < ROUNDING


def test_begun_in_the_middle_it_takes_the_speed_from_the_first_step() -> None:
    hyper = Hyperparameters(RATE, weight_decay=16.0, momentum=0.5)
    run = train([hyper] * 60)
    whole = ExactLaw()
    begin = 20
    measured = {name: drive for name, drive in vars(run.history.drives).items() if drive is not None}
    head = {name: drive[:begin] for name, drive in measured.items()}
    replay(whole, DriveHistory(run.charges[0], run.history.hyperparameters[:begin], Drives(**head)))
    tail = {name: drive[begin:] for name, drive in measured.items()}
    rest = DriveHistory(run.charges[begin], run.history.hyperparameters[begin:], Drives(**tail), whole.companion)
    assert (replay(ExactLaw(), rest) - run.charges[begin:]).abs().max() < ROUNDING * run.charges[0].abs().max()


@pytest.mark.parametrize("missing", ["gradient_energy", "velocity_gradient"])
def test_without_its_drives_a_strongly_decaying_charge_is_no_number(missing: str) -> None:
    run = train([Hyperparameters(RATE, weight_decay=16.0, momentum=0.5)] * 3)
    history = replace(run.history, drives=replace(run.history.drives, **{missing: None}))
    assert replay(ExactLaw(), history)[1:].isnan().all()


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("mode", MODES)
def test_strength_tells_where_the_maps_lose_stability(mode: str, momentum: float) -> None:
    """The linear maps themselves: (θ, v) of training at strength 2, (X, C) of the law with measured W not before 1."""
    if momentum == 0.0 and "nesterov" in mode:
        pytest.skip("torch refuses Nesterov without momentum")
    hyper = replace(MODES[mode], momentum=momentum)
    unit = 1 / float(decay_strength(replace(hyper, weight_decay=1.0)))

    def radius(matrix: Callable[[Hyperparameters], Tensor], strength: float) -> float:
        return float(torch.linalg.eigvals(matrix(replace(hyper, weight_decay=unit * strength))).abs().max())

    assert radius(training_map, 1.99) < 1 < radius(training_map, 2.01)
    assert radius(measured_map, 0.99) < 1
    if not hyper.decoupled:
        assert radius(measured_map, 1.01) > 1


def training_map(h: Hyperparameters) -> Tensor:
    """(θ, v) without a gradient."""
    β, η, λ = h.momentum, h.learning_rate, h.weight_decay
    a, coupled, apart = 1 - h.dampening if β else 1.0, 0.0 if h.decoupled else λ, λ if h.decoupled else 0.0
    theta, v = torch.eye(2, dtype=torch.float64)
    after = β * v + a * coupled * theta
    moved = coupled * theta + β * after if h.nesterov and β else after
    return torch.stack([theta - η * moved - η * apart * theta, after])


def measured_map(h: Hyperparameters) -> Tensor:
    """(X, C) with W and P from outside."""
    β, η, λ = h.momentum, h.learning_rate, h.weight_decay
    a, coupled, apart = 1 - h.dampening if β else 1.0, 0.0 if h.decoupled else λ, λ if h.decoupled else 0.0
    X, C = torch.eye(2, dtype=torch.float64)
    u = coupled * X
    x = β * C + a * u
    slope = u + β * x if h.nesterov and β else x
    turning = x if h.nesterov and β else x + η * apart * (x + apart * X)
    return torch.stack([X - 2 * η * slope - 2 * η * apart * X, turning])
