"""Acceptance 1: the modified flow of order n is followed by descent with global error O(h^n), measured."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from neuralmechanics.flows import ModifiedFieldFlow, ModifiedFlow, PrincipalFlow, descend, integrate, velocity
from neuralmechanics.flows.comparison.sweep import slope
from neuralmechanics.flows.equation.layout import Layout

from ..problems import ROTATED, point, quadratic, tanh_mlp, tanh_mlp_start, valley


def _measured_order(loss, theta0, order, route, steps, horizon, weight_decay=0.0) -> float:
    """Slope of log |flow - descent| at the horizon; the flow is solved to about 1e-13."""
    layout = Layout.of(theta0)
    errors = []
    for count in steps:
        rate = horizon / count
        run = descend(
            loss,
            theta0,
            lambda p, rate=rate: torch.optim.SGD(p, lr=rate, weight_decay=weight_decay),
            count,
            every=count,
        )
        flow = ModifiedFlow(loss, learning_rate=rate, order=order, route=route, weight_decay=weight_decay)
        path = integrate(
            flow,
            theta0,
            [0, horizon],
            method="dopri5-fixed",
            step=horizon / (40 if order < 8 else 60),
            estimate_error=False,
        ).require_completed()
        errors.append(float((layout.flatten(path.final) - layout.flatten(run.final)).norm()))
    assert all(error > 10 * 2**order * torch.finfo(torch.float64).eps for error in errors)
    rates = torch.tensor([horizon / count for count in steps])
    return slope(rates, torch.tensor(errors))


@pytest.mark.parametrize("order", [1, 2, pytest.param(3, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize("problem", ["quadratic", "tanh"])
def test_nested_derivatives_reach_their_order(problem: str, order: int) -> None:
    if problem == "quadratic":
        measured = _measured_order(
            quadratic(ROTATED), point(1.0, 0.3), order, "derivatives", (24, 40), 0.5, weight_decay=0.1
        )
    else:
        steps = (12, 20)
        measured = _measured_order(tanh_mlp, tanh_mlp_start(), order, "derivatives", steps, 1.0, weight_decay=0.1)
    assert measured == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(
    "order", [pytest.param(1, marks=pytest.mark.slow), 2, 4, pytest.param(6, marks=pytest.mark.slow), 8]
)
@pytest.mark.parametrize("problem", ["quadratic", "tanh"])
def test_map_logarithm_reaches_its_order(problem: str, order: int) -> None:
    """The errors must clear what 2^n roundings of the differences leave at each step; the bound is below."""
    if problem == "quadratic":
        steps = (16, 24) if order == 8 else (24, 40)
        measured = _measured_order(quadratic(ROTATED), point(1.0, 0.3), order, "map", steps, 0.5, weight_decay=0.1)
    else:
        # A high order looks n steps ahead and settles into its slope only at small rates.
        steps = {6: (16, 24), 8: (20, 28)}.get(order, (12, 20))
        measured = _measured_order(tanh_mlp, tanh_mlp_start(), order, "map", steps, 0.5, weight_decay=0.1)
    assert measured == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("order", [1, 2, 4, 6, 8, 12])
def test_the_map_logarithm_errs_by_the_remainder_of_the_logarithm_at_every_stiffness(order: int) -> None:
    """On ½λx² the field is -x Σ_{j<=n} z^j/(jη), z = ηλ: a step's error in log x lies between z^{n+1}/(n+1) and that
    over 1 - z. Checked on stiff and soft, up to the edge of convergence, with 2^n roundings allowed."""
    for z in (0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95):
        rate = 0.1
        stiff = quadratic(torch.tensor([[z / rate]], dtype=torch.float64))
        rise = rate * float(
            velocity(ModifiedFlow(stiff, learning_rate=rate, order=order, route="map"), point(1.0))["x"]
        )
        error, rounding = rise - math.log1p(-z), 2**order * 4 * torch.finfo(torch.float64).eps
        remainder = z ** (order + 1) / (order + 1)
        assert remainder - rounding <= error <= remainder / (1 - z) + rounding


def _difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_the_two_routes_agree_to_their_order(order: int) -> None:
    differences, rates = [], (0.02, 0.01, 0.005)
    for rate in rates:
        fields = [
            velocity(ModifiedFlow(valley, learning_rate=rate, order=order, route=route, weight_decay=0.2), point(1, 2))
            for route in ("map", "derivatives")
        ]
        differences.append(_difference(*fields))
    assert slope(torch.tensor(rates), torch.tensor(differences)) == pytest.approx(order, abs=0.25)


def test_schedules_of_constant_pieces_keep_the_order() -> None:
    errors, theta0 = [], point(1.0, 0.3)
    for refine in (1, 2, 4):
        pieces = ((5 * refine, 0.04 / refine), (10 * refine, 0.02 / refine))
        flow = ModifiedFlow(valley, learning_rate=pieces, order=4)
        run = descend(
            valley, theta0, lambda p: torch.optim.SGD(p, lr=1.0), 15 * refine, schedule=flow.schedule, every=15 * refine
        )
        path = integrate(flow, theta0, run.times, method="dopri5", rtol=1e-11, atol=1e-13, estimate_error=False)
        errors.append(_difference(path.final, run.final))
    assert slope(torch.tensor([4.0, 2.0, 1.0]), torch.tensor(errors)) == pytest.approx(4, abs=0.3)


def test_rotation_becomes_the_growing_spiral() -> None:
    step, turn = 0.1, torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)

    def rotation(params: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"x": turn @ params["x"]}

    flow = ModifiedFieldFlow(rotation, time_step=step, order=2, loss=lambda p: p["x"].square().sum())
    path = integrate(flow, point(1, 0), [0, 10], method="dopri5", estimate_error=False)
    assert float(path.final["x"].norm()) == pytest.approx(2.718281828459045 ** (step * 10 / 2), rel=1e-6)
    # The field itself: f - (h/2) f'f = (turn + h/2) x, by either route, exactly (the field is linear).
    for route in ("map", "derivatives"):
        linear = ModifiedFieldFlow(rotation, time_step=step, order=2, loss=flow.loss, route=route)
        expected = (turn + step / 2 * torch.eye(2, dtype=torch.float64)) @ point(1, 0)["x"]
        assert torch.allclose(velocity(linear, point(1, 0))["x"], expected, atol=1e-14)


def test_principal_flow_is_exact_on_quadratics_and_second_order_elsewhere() -> None:
    rate, loss = 0.2, quadratic(ROTATED)
    run = descend(loss, point(1, 0), lambda p: torch.optim.SGD(p, lr=rate), 10)
    path = integrate(
        PrincipalFlow(loss, learning_rate=rate),
        point(1, 0),
        run.times,
        method="dopri5",
        rtol=1e-11,
        estimate_error=False,
    )
    assert torch.allclose(path.params["x"], run.params["x"], atol=1e-9)

    errors, rates = [], (0.04, 0.02, 0.01)
    for rate in rates:
        run = descend(valley, point(1, 0.3), lambda p, rate=rate: torch.optim.SGD(p, lr=rate), round(0.4 / rate))
        flow = PrincipalFlow(valley, learning_rate=rate)
        final = integrate(flow, point(1, 0.3), [0, 0.4], method="dopri5", rtol=1e-10, estimate_error=False).final
        errors.append(_difference(final, run.final))
    assert slope(torch.tensor(rates), torch.tensor(errors)) == pytest.approx(2, abs=0.2)


def test_principal_flow_grows_beyond_the_edge_of_stability() -> None:
    stiff = quadratic(torch.tensor([[1.0]], dtype=torch.float64))
    for rate, growth in ((1.9, 0.9), (2.1, 1.1)):
        path = integrate(
            PrincipalFlow(stiff, learning_rate=rate), point(1.0), [0, 5 * rate], step=rate / 10, estimate_error=False
        )
        assert float(path.final["x"]) == pytest.approx(growth**5, rel=1e-5)
    with pytest.raises(ValueError, match="dense Hessian of 2 parameters, above largest=1"):
        PrincipalFlow(valley, learning_rate=0.1, largest=1).system(point(1, 1))
