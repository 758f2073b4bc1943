"""The exact laws against torch.optim.SGD in float64: every mode × β × λ, 500 steps, and eventful schedules."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from neuralmechanics.laws import Drives, ExactLaw, Hyperparameters, IdentityLaw, replay

LAWS = {
    "exact": lambda quadratic: ExactLaw(quadratic),
    "identity": lambda quadratic: ExactLaw(quadratic, measured_residual=True),
    "any optimiser": lambda quadratic: IdentityLaw(quadratic),
}
ROUNDING = 1e-12  # of the initial charge


def without_velocity(history):
    """The same history had P = ⟨d,v⟩ not been measured."""
    return replace(history, drives=replace(history.drives, update_velocity=None))


@pytest.mark.parametrize("run_name", ["grid", "eventful"])
@pytest.mark.parametrize("law", LAWS)
def test_reproduces_torch_to_rounding(law, run_name, request):
    run = request.getfixturevalue(run_name)
    predicted = replay(LAWS[law](run.quadratic), run.history)
    assert run.error(predicted).max() < ROUNDING
    assert ((run.charges[-1] - run.charges[0]).abs() / run.sizes).max() > 0.1  # the charges did move


def test_heavy_ball_needs_no_velocity_and_nesterov_is_nan_without_it(grid):
    nesterov = grid.history.hyperparameters[0].nesterov
    predicted = replay(ExactLaw(grid.quadratic), without_velocity(grid.history))
    known = ~(nesterov & grid.quadratic)
    error = (predicted - grid.charges).abs().amax(0) / grid.sizes
    assert error[known].max() < ROUNDING
    assert predicted[1:, ~known][1:].isnan().all()


def test_momentum_that_returns_to_its_old_buffer_is_nan_without_the_velocity(eventful):
    predicted = replay(ExactLaw(eventful.quadratic), without_velocity(eventful.history))
    heavy_ball = eventful.quadratic & (eventful.history.hyperparameters[0].momentum == 0.9)
    heavy_ball &= ~eventful.history.hyperparameters[0].nesterov
    assert predicted[:321, heavy_ball].isfinite().all()
    assert predicted[322:, heavy_ball].isnan().all()
    assert predicted[:, ~eventful.quadratic].isfinite().all()  # a translation's buffer sum needs no drive


def test_the_two_laws_differ_by_the_symmetry_breaking_alone(broken):
    exact = broken.error(replay(ExactLaw(broken.quadratic), broken.history)).amax(0)
    identity = broken.error(replay(ExactLaw(broken.quadratic, measured_residual=True), broken.history))
    scales = slice(10, 15)
    assert identity.max() < ROUNDING
    assert (exact[scales] > 1e-3).sum() >= 4  # eps breaks the scale of the norm's weights (one unit is dead)
    assert exact[:10].max() < ROUNDING  # and nothing else
    assert exact[15:].max() < ROUNDING


def test_epsilon_formula_is_the_residual_the_identity_needs():
    """ρ = eps/(σ²+eps)·Σ(∂L/∂y·y) of theory 1, fed instead of the measured ⟨g,θ⟩."""
    generator = torch.Generator().manual_seed(1)
    eps, weight = 0.2, torch.randn(3, 5, dtype=torch.float64, generator=generator)
    x, target = (torch.randn(16, n, dtype=torch.float64, generator=generator) for n in (5, 3))
    weight.requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=0.3, momentum=0.9, weight_decay=1e-2)
    law = ExactLaw(measured_residual=True)
    law.start(weight.detach().square().sum(1))
    for step in range(500):
        z = x @ weight.T
        variance = z.var(0, unbiased=False)
        y = (z - z.mean(0)) / (variance + eps).sqrt()
        loss = (torch.tanh(y) - target).square().mean()
        (slope,) = torch.autograd.grad(loss, y, retain_graph=True)
        residual = (eps / (variance + eps) * (slope * y).sum(0)).detach()
        optimizer.zero_grad()
        loss.backward()
        before = weight.detach().clone()
        optimizer.step()
        energy = (weight.detach() - before).square().sum(1)
        law.step(Hyperparameters(0.3, 1e-2, 0.9, first_step=step == 0), Drives(energy, residual=residual))
    measured = weight.detach().square().sum(1)
    assert ((law.value - measured).abs() / measured).max() < ROUNDING


def test_a_law_begun_in_the_middle_needs_the_companion(grid):
    whole = ExactLaw(grid.quadratic)
    replay(whole, replace_window(grid.history, 0, 200, grid.charges[0]))
    window = replace_window(grid.history, 200, 500, grid.charges[200])
    joined = replay(ExactLaw(grid.quadratic), replace(window, companion0=whole.companion))
    assert ((joined - grid.charges[200:]).abs() / grid.sizes).max() < ROUNDING


def replace_window(history, begin, end, charge0):
    drives = {name: drive[begin:end] for name, drive in vars(history.drives).items() if drive is not None}
    return replace(
        history, charge0=charge0, hyperparameters=history.hyperparameters[begin:end], drives=Drives(**drives)
    )


def test_charges_without_a_closed_law_follow_the_identity():
    """Adam on half of the charges, SGD on the other half: `holds` says which is which."""
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(2, 4, dtype=torch.float64, generator=generator)
    leaves = [row.clone().requires_grad_() for row in start]
    optimizers = [torch.optim.SGD([leaves[0]], lr=0.05, momentum=0.9), torch.optim.Adam([leaves[1]], lr=0.05)]
    law = ExactLaw(holds=torch.tensor([True, False]))
    law.start(start.square().sum(1))

    def loss(leaf: Tensor) -> Tensor:
        return torch.sin(leaf / leaf.norm()).sum()

    for step in range(300):
        before = torch.stack([leaf.detach().clone() for leaf in leaves])
        for leaf, optimizer in zip(leaves, optimizers, strict=True):
            optimizer.zero_grad()
            loss(leaf).backward()
            optimizer.step()
        after = torch.stack([leaf.detach() for leaf in leaves])
        d = after - before
        drives = Drives(update_energy=d.square().sum(1), parameter_update=(before * d).sum(1))
        law.step(Hyperparameters(0.05, momentum=0.9, first_step=step == 0), drives)
    assert torch.allclose(law.value, after.square().sum(1), rtol=ROUNDING, atol=0)


def test_plain_sgd_is_the_square_of_the_decay_plus_the_energy():
    X, W = torch.tensor([3.0, 2.0], dtype=torch.float64), torch.tensor([0.5, 0.25], dtype=torch.float64)
    η, λ = 0.1, 0.2
    law = ExactLaw()
    law.start(X)
    law.step(Hyperparameters(η, λ), Drives(W))
    gradient = W / η**2 - λ**2 * X  # |g|² from |d|² = η²|g + λθ|²
    assert torch.allclose(law.value, (1 - η * λ) ** 2 * X + η**2 * gradient, rtol=1e-15, atol=0)
