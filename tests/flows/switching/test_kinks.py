"""Acceptance 6 for kinked networks: stepping from kink to kink keeps the tolerance, through crossings and slides."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics.flows import GradientFlow, ModifiedFlow, StopReason, drift_by_kind, integrate, module_loss
from neuralmechanics.flows.comparison.sweep import slope
from neuralmechanics.flows.equation.module_loss import ModuleLoss
from neuralmechanics.flows.switching.held_choices import HeldChoices
from neuralmechanics.flows.switching.rules import RULES, kinks_without_rule

from ..problems import charges_of, network_loss, point

TOLERANCES = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


def _valley(params: dict[str, Tensor]) -> Tensor:
    x, y = params["x"]
    return x.abs() + 0.1 * y.square()


def test_charges_and_trajectory_of_a_relu_network_follow_the_tolerance() -> None:
    """Drift and distance from the true trajectory shrink like the tolerance, through seven crossings."""
    loss = network_loss("relu", width=8)
    charges = charges_of(loss, "relu")
    times = [0.0, 2.0, 4.0]
    paths = {
        accuracy: integrate(GradientFlow(loss), loss.theta0, times, charges, "dopri5", rtol=accuracy, atol=accuracy)
        for accuracy in (*TOLERANCES, 1e-11)
    }
    truth = paths[1e-11]
    drifts, errors = [], []
    for accuracy in TOLERANCES:
        path = paths[accuracy].require_completed()
        assert len(path.event_times) == len(truth.event_times) >= 5
        drifts.append(drift_by_kind(path, charges.kinds)["rescale"])
        errors.append(max(float((path.params[name] - truth.params[name]).abs().max()) for name in path.params))
        assert drifts[-1] < 20 * accuracy
    assert slope(torch.tensor(TOLERANCES), torch.tensor(drifts)) == pytest.approx(1, abs=0.15)
    assert slope(torch.tensor(TOLERANCES), torch.tensor(errors)) == pytest.approx(1, abs=0.2)
    # Fixed steps know nothing of events and come to the same trajectory, at first order in the step.
    step = 0.01
    plain = integrate(GradientFlow(loss), loss.theta0, times, step=step, estimate_error=False)
    assert max(float((plain.params[name] - truth.params[name]).abs().max()) for name in plain.params) < 0.1 * step


def test_a_flow_slides_along_its_kink() -> None:
    """x' = -sign x, y' = -y/5: x reaches 0 at t = x0 and stays."""
    times = [0.0, 0.2, 0.4, 1.0]
    path = integrate(GradientFlow(_valley), point(0.4, 1.0), times, method="dopri5", kinks="locate")
    expected = torch.tensor([[max(0.4 - t, 0.0), math.exp(-0.2 * t)] for t in times], dtype=torch.float64)
    assert torch.allclose(path.require_completed().params["x"], expected, atol=1e-9)
    assert path.event_times.tolist() == pytest.approx([0.4], abs=1e-12)
    assert path.slides == 1


def test_a_slide_ends_where_one_side_lets_go() -> None:
    """|x| - xy - y: the flow arrives at x = 0 by hyperbolas, slides while |y| < 1, and leaves by cosh(t - t2) - 1."""

    def loss(params: dict[str, Tensor]) -> Tensor:
        x, y = params["x"]
        return x.abs() - x * y - y

    arrival = math.log((1 - math.sqrt(1 - (1.5**2 - 2**2))) / (1.5 - 2))  # 1.5 cosh t - 2 sinh t = 1
    height = 1 + 1.5 * math.sinh(arrival) - 2 * math.cosh(arrival)
    leaving = arrival + 1 - height
    path = integrate(GradientFlow(loss), point(0.5, -1.0), [0, leaving + 0.5], method="dopri5", rtol=1e-10)
    assert path.require_completed().event_times.tolist() == pytest.approx([arrival, leaving], abs=1e-8)
    expected = [math.cosh(0.5) - 1, 1 + math.sinh(0.5)]
    assert path.final["x"].tolist() == pytest.approx(expected, abs=1e-8)


def test_two_kinks_hold_at_once() -> None:
    def corner(params: dict[str, Tensor]) -> Tensor:
        x, y = params["x"]
        return (x - y).abs() + 0.7 * (x + y - 1).abs() + 0.1 * y.square() + 0.05 * x.square()

    path = integrate(GradientFlow(corner), point(0.4, 1.0), [0, 3], method="dopri5").require_completed()
    assert path.slides == 2
    assert path.final["x"].tolist() == pytest.approx([0.5, 0.5], abs=1e-9)


def _pooled(zeros: int) -> ModuleLoss:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.LeakyReLU(0.1), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(6, 2))
    inputs, answers = torch.randn(3, 1, 8), torch.randn(3, 2)
    inputs[:, :, :zeros] = 0
    return module_loss(model, lambda m, b: (m(b[0]) - b[1]).square().mean(), (inputs, answers))


@pytest.mark.parametrize("zeros", [0, pytest.param(4, marks=pytest.mark.slow)])
def test_pools_cross_and_ties_of_equal_patches_do_not(zeros: int) -> None:
    """With ``zeros`` pixels dark, patches are equal for ever: no tolerance sees an event in that."""
    loss = _pooled(zeros)
    coarse, fine = (
        integrate(GradientFlow(loss), loss.theta0, [0, 1], method="dopri5", rtol=rtol, atol=rtol).require_completed()
        for rtol in (1e-6, 1e-9)
    )
    assert len(coarse.event_times) == len(fine.event_times) > 0
    assert coarse.slides == fine.slides
    assert torch.allclose(coarse.event_times, fine.event_times, atol=1e-3)
    assert max(float((coarse.final[name] - fine.final[name]).abs().max()) for name in fine.final) < 1e-5
    step = 1e-3
    plain = integrate(GradientFlow(loss), loss.theta0, [0, 1], step=step, estimate_error=False)
    assert max(float((plain.final[name] - fine.final[name]).abs().max()) for name in fine.final) < step


KINKED = {
    "relu": lambda x: functional.relu(x),
    "relu_": lambda x: (1.0 * x).relu_(),
    "leaky": lambda x: functional.leaky_relu(x, 0.2),
    "prelu": lambda x: functional.prelu(x, torch.tensor([0.1, 0.3, 0.5, 0.2]).double()),
    "threshold": lambda x: functional.threshold(x, 0.3, 0.1),
    "abs": lambda x: abs(x),
    "clamp": lambda x: x.clamp(-0.5, 0.7),
    "clamp_min": lambda x: torch.clamp_min(x, 0.1),
    "clamp_max": lambda x: x.clamp_max(0.1),
    "hardtanh": lambda x: functional.hardtanh(x),
    "relu6": lambda x: functional.relu6(5 * x),
    "hardswish": lambda x: functional.hardswish(4 * x),
    "hardsigmoid": lambda x: functional.hardsigmoid(4 * x),
    "softshrink": lambda x: functional.softshrink(x, 0.2),
    "maximum": lambda x: torch.maximum(x, x.flip(0)),
    "minimum": lambda x: torch.min(x, x.flip(0) + 0.1),
    "max": lambda x: x.max(dim=1).values * torch.max(x),
    "amax": lambda x: x.amax((1, 2), keepdim=True) - x.amin(0),
    "comparison": lambda x: torch.where(x > 0.1, x, x**2) * (x <= 0.6),
    "l1": lambda x: functional.l1_loss(x, 0.5 * x.flip(1), reduction="sum"),
    "pool1": lambda x: functional.max_pool1d(x, 3, stride=2, padding=1),
    "pool2": lambda x: functional.max_pool2d(x, (2, 3), stride=2, padding=1, ceil_mode=True),
    "pool2 dilated": lambda x: functional.max_pool2d(x[None], 2, stride=1, dilation=2),
    "pool3": lambda x: functional.max_pool3d(x[None, None], 2),
}


@pytest.mark.parametrize("name", KINKED)
def test_every_rule_is_the_operation_it_stands_for(name: str) -> None:
    """Value and gradient equal torch's own on the natural branch, and every comparison is seen."""
    x = torch.randn(6, 4, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def loss(params: dict[str, Tensor]) -> Tensor:
        return torch.sin(KINKED[name](params["x"])).square().sum()

    results = []
    for held in (False, True):
        leaf = x.clone().requires_grad_(True)
        if held:
            with HeldChoices(RULES) as seen:
                value = loss({"x": leaf})
        else:
            value = loss({"x": leaf})
        results.append((value.detach(), torch.autograd.grad(value, leaf)[0]))
    assert torch.allclose(results[0][0], results[1][0], rtol=1e-13)
    # torch's own hardsigmoid multiplies by a rounded sixth, 5e-9 off.
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-7 if name == "hardsigmoid" else 1e-13, atol=1e-15)
    assert len(seen.choices) > 0
    assert bool((seen.all_margins() >= 0).all())
    assert kinks_without_rule(loss, {"x": x}) == set()


def test_what_cannot_be_held_is_refused_or_left_to_the_plain_method() -> None:
    def fused(params: dict[str, Tensor]) -> Tensor:
        return functional.adaptive_max_pool2d(params["x"].reshape(1, 1, 2, 2), 1).square().sum()

    start = point(1.0, 0.2, 0.3, 0.4)
    with pytest.raises(ValueError, match="kinks='locate': the loss runs adaptive_max_pool2d where its branch cannot"):
        integrate(GradientFlow(fused), start, [0, 1], method="dopri5", kinks="locate")
    plain = integrate(GradientFlow(fused), start, [0, 0.1], method="dopri5")
    assert plain.completed
    assert plain.event_times is None
    with pytest.raises(ValueError, match="kinks='locate' with method='auto'"):
        integrate(GradientFlow(_valley), point(1, 1), [0, 1], kinks="locate")
    with pytest.raises(ValueError, match="kinks is 'magic'"):
        integrate(GradientFlow(_valley), point(1, 1), [0, 1], method="dopri5", kinks="magic")


def test_a_field_that_looks_ahead_chatters_at_a_convex_kink_and_says_so() -> None:
    flow = ModifiedFlow(_valley, learning_rate=0.1, order=2)
    path = integrate(flow, point(0.4, 1.0), [0, 0.2, 3.0], method="dopri5")
    assert path.reason is StopReason.CHATTERING
    assert "switched 100 times" in path.message
    assert path.times.tolist() == [0, 0.2]
