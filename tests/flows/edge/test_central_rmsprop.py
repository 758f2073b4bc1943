"""The central flow of RMSprop where its equilibrium is known in closed form, and where nothing oscillates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neuralmechanics.flows import CentralRMSpropFlow, GradientFlow, descend, integrate, velocity

from ..problems import point, tanh_mlp, tanh_mlp_start

RATE, SMOOTHING, STEEPNESS = 0.02, 0.95, 3.0


def parabola(params: dict[str, Tensor]) -> Tensor:
    """½ s x²: the curvature is fixed, so the preconditioner alone can hold the edge, √ν = ηs/2."""
    return STEEPNESS * params["x"].square().sum() / 2


def test_preconditioner_is_held_at_the_edge() -> None:
    """ν would fall to zero with the gradient; at √ν = ηs/2 the oscillation holds it: ν = s²x², x² = η²/4."""
    flow = CentralRMSpropFlow(parabola, learning_rate=RATE, smoothing=SMOOTHING, eps=0.0)
    system = flow.system(point(0.0))
    edge = (RATE * STEEPNESS / 2) ** 2
    state = torch.tensor([0.0, 1.2 * edge], dtype=torch.float64)
    rule = next(system.pieces(0.0, 1.0)).field
    for _ in range(60):
        state = state + RATE * rule(state)
    assert float(state[1]) == pytest.approx(edge, rel=1e-6)
    held = flow.oscillation(point(0.0), {"x": state[1:]})
    assert held.sharpness == pytest.approx(2.0, rel=1e-6)
    assert held.variance == pytest.approx(RATE**2 / 4, rel=1e-5)


@pytest.mark.parametrize("relaxation", [1.0, 3.0])
def test_beside_a_floor_the_preconditioner_is_held_by_its_root_alone(relaxation: float) -> None:
    """P = (√ν + ε)/η: with Λ = s/P, Λ - 2 over τη is what 2P' is to it: ν' = (Λ - 2)√ν(√ν + ε)/(τη)."""
    eps, root = 0.01, 0.018  # Λ = ηs/(√ν + ε) is a little above 2
    flow = CentralRMSpropFlow(parabola, learning_rate=RATE, smoothing=SMOOTHING, eps=eps, relaxation=relaxation)
    state = torch.tensor([0.0, root**2], dtype=torch.float64)
    change = next(flow.system(point(0.0)).pieces(0.0, 1.0)).field(state)
    ratio = RATE * STEEPNESS / (root + eps)
    assert ratio > 2
    expected = (ratio - 2) * root * (root + eps) / (relaxation * RATE)
    assert float(change[1]) == pytest.approx(expected, rel=1e-9)


def test_the_same_is_seen_in_training() -> None:
    path = descend(
        parabola, point(0.011), lambda tensors: torch.optim.RMSprop(tensors, lr=RATE, alpha=SMOOTHING, eps=0.0), 800
    )
    assert float(path.params["x"][400:].square().mean()) == pytest.approx(RATE**2 / 4, rel=0.02)


def test_below_the_edge_it_is_preconditioned_descent() -> None:
    """ν starts where it rests, so that the gradient is divided by its own size."""
    start = tanh_mlp_start()
    found = velocity(CentralRMSpropFlow(tanh_mlp, learning_rate=1e-4, eps=1e-3), start)
    for name, downhill in velocity(GradientFlow(tanh_mlp), start).items():
        torch.testing.assert_close(found[name], downhill / (downhill.abs() + 1e-3), rtol=1e-9, atol=1e-12)


def test_squares_may_be_given() -> None:
    given = {"x": torch.tensor([4.0], dtype=torch.float64)}
    flow = CentralRMSpropFlow(parabola, learning_rate=RATE, smoothing=SMOOTHING, squares=given)
    assert flow.system(point(1.0)).initial.tolist() == [1.0, 4.0]
    assert velocity(flow, point(1.0))["x"].item() == pytest.approx(-STEEPNESS / 2, rel=1e-6)
    assert integrate(flow, point(1.0), [0.0, RATE]).completed
