"""Which of several units on their kinks slide, and which leave: against a search through all choices."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import find_symmetries
from neuralmechanics.flows import GradientFlow, integrate, module_loss
from neuralmechanics.flows.switching.sliding import holding_weights, settled_weights


def _problem(size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rates b - Mα with M positive definite and not symmetric: their weights are unique."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    skew = torch.randn(size, size, generator=generator, dtype=torch.float64)
    bias = 2 * torch.randn(size, generator=generator, dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(size) + (skew - skew.T), bias


def _searched(matrix: Tensor, bias: Tensor) -> Tensor:
    size = len(bias)
    for choice in itertools.product((0.0, 1.0, None), repeat=size):
        free = torch.tensor([c is None for c in choice])
        alphas = torch.tensor([c or 0.0 for c in choice], dtype=torch.float64)
        if bool(free.any()):
            rest = bias[free] - matrix[free][:, ~free] @ alphas[~free]
            alphas[free] = torch.linalg.solve(matrix[free][:, free], rest)
        rates = bias - matrix @ alphas
        inside = bool(((alphas >= 0) & (alphas <= 1)).all())
        held = all(r >= 0 if c else r <= 0 for r, c in zip(rates.tolist(), choice, strict=True) if c is not None)
        if inside and held:
            return alphas
    raise AssertionError("no choice holds")


@pytest.mark.parametrize("size", [1, 2, 4, 6])
@pytest.mark.parametrize("seed", range(5))
def test_settled_weights_are_the_only_consistent_ones(size: int, seed: int) -> None:
    matrix, bias = _problem(size, seed)
    found = settled_weights(lambda alphas: bias - matrix @ alphas, torch.full((size,), 0.5, dtype=torch.float64))
    assert found is not None
    torch.testing.assert_close(found, _searched(matrix, bias), rtol=0, atol=1e-8)


def test_settled_weights_of_products() -> None:
    """Behind a sliding unit the rate of a deeper one holds a product of weights, as in a network of two layers."""

    def rates(alphas: Tensor) -> Tensor:
        first, second = alphas
        return torch.stack([0.5 - first - 0.3 * second * first, 0.4 - 2 * first * second])

    found = settled_weights(rates, torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert found is not None
    assert float(rates(found).abs().max()) < 1e-8
    assert bool(((found > 0) & (found < 1)).all())


def test_holding_weights_solve_and_tell() -> None:
    matrix, bias = _problem(4, 0)
    found = holding_weights(lambda alphas: bias - matrix @ alphas, torch.zeros(4, dtype=torch.float64), None)
    assert found is not None
    torch.testing.assert_close(matrix @ found[0], bias, rtol=1e-9, atol=1e-9)
    assert holding_weights(lambda alphas: torch.ones_like(alphas), torch.zeros(2, dtype=torch.float64), None) is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_flow_goes_through_two_hidden_layers(seed: int) -> None:
    """Where up to fourteen units of both layers are on their kinks at once; the charges tell that it is the flow."""

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return functional.cross_entropy(model(batch[0]), batch[1])

    torch.manual_seed(seed)
    layers = [nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)]
    model = nn.Sequential(*layers).double()
    batch = torch.randn(20, 16).double(), torch.randint(4, (20,))
    loss = module_loss(model, loss_fn, batch)
    symmetries = find_symmetries(model, batch, loss_fn)
    path = integrate(GradientFlow(loss), loss.theta0, [0.0, 2.0, 4.0], symmetries, "dopri5", rtol=1e-6, atol=1e-6)
    assert path.require_completed().slides > 10
    assert path.charges is not None
    assert float((path.charges[-1] - path.charges[0]).abs().max()) < 1e-4
    assert bool((path.losses.diff() < 0).all())
