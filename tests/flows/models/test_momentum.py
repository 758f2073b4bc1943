"""Acceptance 3: the second-order flow with its right start, the modified loss, and the series with momentum."""

from __future__ import annotations

import pytest
import torch

from neuralmechanics.flows import GradientFlow, ModifiedFlow, ModifiedLoss, MomentumFlow, descend, integrate, velocity
from neuralmechanics.flows.comparison.sweep import slope
from neuralmechanics.flows.integration.steppers import STEPPERS

from ..problems import DIAGONAL, network_loss, point, quadratic, valley


def test_the_papers_quadratic_with_momentum() -> None:
    """η=.01, β=.9, eigenvalues 4 and 1, θ0=(1,0), 50 steps: largest distance from the iterates."""
    loss, rate, beta = quadratic(DIAGONAL), 0.01, 0.9
    run = descend(loss, point(1, 0), lambda p: torch.optim.SGD(p, lr=rate, momentum=beta), 50)
    measured = {}
    for flow in (
        ModifiedFlow(loss, learning_rate=rate, momentum=beta),
        ModifiedFlow(loss, learning_rate=rate, momentum=beta, at_rest=True),
        ModifiedLoss(loss, learning_rate=rate, momentum=beta),
        MomentumFlow(loss, momentum=beta),
    ):
        name = "at rest" if getattr(flow, "at_rest", False) else flow.label
        path = integrate(flow, point(1, 0), run.times, method="dopri5", rtol=1e-9, atol=1e-11, estimate_error=False)
        measured[name] = float((path.params["x"] - run.params["x"]).norm(dim=1).max())
    assert measured["modified flow"] <= 0.003
    assert measured["at rest"] == pytest.approx(0.0738, abs=5e-4)
    assert measured["modified loss"] == pytest.approx(0.864, abs=5e-3)
    assert measured["gradient flow with momentum"] == pytest.approx(0.482, abs=5e-3)


def _order(make, settings: dict, loss, theta0) -> float:
    h_of, errors, steps = 1 - settings.get("dampening", 0.0), [], (16, 32, 64)
    for count in steps:
        rate = 0.4 / count / h_of
        run = descend(loss, theta0, lambda p, rate=rate: torch.optim.SGD(p, lr=rate, **settings), count, every=count)
        path = integrate(make(rate), theta0, [0, 0.4], method="dopri5", rtol=1e-6, atol=1e-8, estimate_error=False)
        errors.append(max(float((path.final[name] - run.final[name]).abs().max()) for name in theta0))
    return slope(torch.tensor([1.0 / count for count in steps]), torch.tensor(errors))


@pytest.mark.parametrize("settings", [{"momentum": 0.5}, {"momentum": 0.5, "dampening": 0.4}], ids=["heavy", "damped"])
def test_schedules_keep_the_second_order_flow_second_order(settings: dict) -> None:
    """Velocity is carried over a drop of the learning rate by four and a rise by two."""
    errors, start, h_of = [], point(1.0, 1.6), 1 - settings.get("dampening", 0.0)
    for refine in (2, 4, 8):
        pieces = ((5 * refine, 0.04 / refine), (10 * refine, 0.01 / refine), (5 * refine, 0.02 / refine))
        flow = ModifiedFlow(valley, learning_rate=pieces, **settings)
        count = 20 * refine
        run = descend(
            valley, start, lambda p: torch.optim.SGD(p, lr=1.0, **settings), count, schedule=flow.schedule, every=count
        )
        assert float(run.times[-1]) == pytest.approx(0.4 * h_of)
        path = integrate(flow, start, run.times, method="dopri5", rtol=1e-7, atol=1e-9, estimate_error=False)
        errors.append(float((path.final["x"] - run.final["x"]).norm()))
    assert slope(torch.tensor([4.0, 2.0, 1.0]), torch.tensor(errors)) == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize(
    "settings",
    [
        {"momentum": 0.5},
        {"momentum": 0.5, "dampening": 0.4},
        {"momentum": 0.5, "nesterov": True},
        {"momentum": 0.5, "weight_decay": 0.3},
    ],
    ids=["heavy ball", "dampening", "nesterov", "decay"],
)
def test_second_order_models_are_second_order_from_the_first_step(settings: dict) -> None:
    start = point(1.0, 1.6)
    assert _order(lambda rate: ModifiedFlow(valley, learning_rate=rate, **settings), settings, valley, start) > 1.8
    bent = _order(
        lambda rate: ModifiedLoss(valley, learning_rate=rate, shift_start=True, **settings), settings, valley, start
    )
    assert bent == pytest.approx(2, abs=0.25)
    at_rest = _order(
        lambda rate: ModifiedFlow(valley, learning_rate=rate, at_rest=True, **settings), settings, valley, start
    )
    assert at_rest == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_slow_manifold_series_satisfies_the_two_step_recursion(order: int, nesterov: bool) -> None:
    """φ_h - 1 - β(1 - φ_-h) + h(G + β(G - G∘φ_-h)) = O(h^{n+1}), the Nesterov term only for Nesterov, at one point."""
    beta, x, defects, rates = 0.4, torch.tensor([1.0, 1.6], dtype=torch.float64), [], (0.02, 0.01, 0.005)

    def slope_at(position: torch.Tensor) -> torch.Tensor:
        return velocity(GradientFlow(valley), {"x": position})["x"]

    for rate in rates:
        flow = ModifiedFlow(
            valley, learning_rate=rate, order=order, momentum=beta, nesterov=nesterov, shift_start=False
        )
        field = next(flow.system({"x": x}).pieces(0, 1)).field
        ends = []
        for direction in (rate, -rate):
            end = x
            for _ in range(4):
                end = STEPPERS["dopri5-fixed"].step(field, end, direction / 4)
            ends.append(end)
        ahead, behind = ends
        push = slope_at(x)
        if nesterov:
            push = push + beta * (push - slope_at(behind))
        defects.append(((ahead - x) - beta * (x - behind) - rate * push).abs().max())
    assert slope(torch.tensor(rates), torch.stack(defects)) == pytest.approx(order + 1, abs=0.2)


def test_the_modified_loss_is_itself_a_loss() -> None:
    """Gradient flow on L̃ is the modified loss's flow, and for β=0 it is the series of order 2."""
    loss = network_loss("tanh")
    bent = ModifiedLoss(loss, learning_rate=0.3, weight_decay=0.2)
    series = ModifiedFlow(loss, learning_rate=0.3, weight_decay=0.2, order=2, route="derivatives")
    reference = velocity(bent, loss.theta0)
    for flow in (GradientFlow(bent.modified), series):
        for name, value in velocity(flow, loss.theta0).items():
            assert torch.allclose(value, reference[name], rtol=1e-11, atol=1e-13)
    heavy = ModifiedLoss(loss, learning_rate=0.01, momentum=0.6, nesterov=True)
    series = ModifiedFlow(loss, learning_rate=0.01, momentum=0.6, nesterov=True, order=2, shift_start=False)
    for name, value in velocity(heavy, loss.theta0).items():
        assert torch.allclose(value, velocity(series, loss.theta0)[name], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("settings", [{}, {"nesterov": True}, {"dampening": 0.4}], ids=["heavy", "nesterov", "damped"])
def test_on_a_slope_the_flow_starts_where_the_initial_layer_leaves_the_iterates(settings: dict) -> None:
    """Without curvature nothing else tells them apart: after 200 steps, β^200 = 4e-20, both are at one place."""
    slope = torch.tensor([1.0, -2.0], dtype=torch.float64)
    weight = torch.tensor([3.0, 5.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.8, **settings)
    flow = ModifiedFlow(lambda p: p["w"] @ slope, learning_rate=0.1, momentum=0.8, order=2, **settings)
    path = integrate(flow, {"w": weight.detach().clone()}, [0.0, 200 * flow.sgd.time_step])
    for _ in range(200):
        weight.grad = slope.clone()
        optimizer.step()
    assert torch.allclose(path.final["w"], weight.detach(), rtol=1e-11, atol=0)
