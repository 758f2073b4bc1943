"""Gradient flow, modified loss and the paper's first-order integral against networks trained without momentum."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch

from neuralmechanics.laws import (
    DriveHistory,
    Drives,
    ExactLaw,
    FirstOrderLaw,
    GradientFlowLaw,
    Hyperparameters,
    ModifiedLossLaw,
    replay,
)

QUADRATIC = torch.tensor([True, False])


@lru_cache
def plain_run(learning_rate, weight_decay, time=2.0, **options):
    """A norm and a sum under constant ⟨g,g⟩ = 1 with plain SGD, where W = η²(1 + λ²X) (decoupled: the same)."""
    law = ExactLaw(QUADRATIC)
    law.start(torch.ones(2, dtype=torch.float64))
    hyper = Hyperparameters(learning_rate, weight_decay, **options)
    energies = []
    for _ in range(int(time / learning_rate)):
        energies.append(learning_rate**2 * (1 + weight_decay**2 * law.value))
        law.step(hyper, Drives(energies[-1]))
    ones = torch.ones(len(energies), 2, dtype=torch.float64)
    drives = Drives(update_energy=torch.stack(energies), gradient_energy=ones)
    return DriveHistory(torch.ones(2, dtype=torch.float64), [hyper] * len(energies), drives)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize(("law", "order"), [(GradientFlowLaw, 1), (FirstOrderLaw, 1), (ModifiedLossLaw, 2)])
def test_order_of_convergence_without_momentum(law, order, decoupled):
    rates = np.array([0.02, 0.01, 0.005])
    errors = []
    for η in rates:
        run = plain_run(η, 0.2, decoupled=decoupled)
        errors.append((replay(law(QUADRATIC), run) - replay(ExactLaw(QUADRATIC), run)).abs().max(0).values.numpy())
    slopes = np.polyfit(np.log(rates), np.log(np.array(errors)), 1)[0]
    assert slopes == pytest.approx([order, order], abs=0.15)


@pytest.mark.parametrize("nesterov", [False, True])
def test_modified_loss_is_second_order_with_momentum_once_the_transient_is_gone(nesterov):
    """Rate of decay of a translation, against the slow root of the exact recursion."""
    momentum, rates, misses = 0.5, np.array([0.2, 0.1, 0.05]), []
    for η in rates:
        hyper = Hyperparameters(η, 0.1, momentum, nesterov=nesterov)
        paths = []
        for law in (ModifiedLossLaw, ExactLaw):
            history = DriveHistory(torch.ones(1, dtype=torch.float64), [hyper] * int(40 / η), Drives())
            tail = replay(law(torch.tensor([False])), history).squeeze(1)[-2:]
            paths.append(torch.log(tail[1] / tail[0]).item() / η)
        misses.append(abs(paths[0] - paths[1]))
    assert np.polyfit(np.log(rates), np.log(misses), 1)[0] == pytest.approx(2, abs=0.15)


def test_without_decay_the_first_order_integral_is_exact_for_sgd(grid):
    """X grows by η²|g|² a step and by nothing else."""
    hyper = grid.history.hyperparameters[0]
    plain = (hyper.momentum == 0) & (hyper.weight_decay == 0)
    law = FirstOrderLaw(grid.quadratic)
    error = (replay(law, grid.history) - grid.charges).abs().amax(0) / grid.sizes
    assert error[plain].max() < 1e-13
    assert error[(hyper.momentum == 0) & ~plain].max() < 1e-3


def test_first_order_says_where_it_does_not_hold(grid, eventful):
    law = FirstOrderLaw(grid.quadratic)
    replay(law, grid.history)
    assert torch.equal(law.holds, grid.history.hyperparameters[0].momentum == 0)
    assert torch.equal(law.value.isnan(), ~law.holds)
    replay(law, eventful.history)
    assert not law.holds.any()  # momentum came at step 320


def test_gradient_flow_is_the_exponential_of_the_summed_time():
    hypers = [Hyperparameters(0.1 / (k + 1), 0.3, 0.8, 0.25, first_step=k == 0) for k in range(10)]
    path = replay(GradientFlowLaw(QUADRATIC), DriveHistory(torch.ones(2, dtype=torch.float64), hypers, Drives()))
    time = 0.1 + 0.75 * sum(0.1 / (k + 1) for k in range(1, 10))  # torch's first step is not dampened
    expected = torch.tensor([-2 * 0.3 * time / 0.2, -0.3 * time / 0.2], dtype=torch.float64).exp()
    assert torch.allclose(path[-1], expected, rtol=1e-14, atol=0)
