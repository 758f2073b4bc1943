"""The integrator of order 8: its order, its dense output and its cost beside scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from neuralmechanics.flows import GradientFlow, integrate
from neuralmechanics.flows.comparison.sweep import slope
from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Objective

from ..problems import network_loss, point, valley

START = point(0.4, 1.3)
TIMES = [0.0, 0.3, 0.5, 1.3, 1.31, 2.0, 3.0]


def _scipy(tolerance: float) -> tuple[torch.Tensor, int]:
    layout = Layout.of(START)
    objective = Objective(valley, layout)
    solved = solve_ivp(
        lambda t, x: -objective.gradient(torch.from_numpy(x)).numpy(),
        (0.0, TIMES[-1]),
        layout.flatten(START).numpy(),
        method="DOP853",
        rtol=tolerance,
        atol=tolerance,
        t_eval=np.array(TIMES),
    )
    return torch.from_numpy(solved.y.T.copy()), int(solved.nfev)


def test_fixed_steps_have_order_eight() -> None:
    exact, _ = _scipy(1e-13)
    steps = (0.3, 0.15, 0.075)
    errors = [
        (integrate(GradientFlow(valley), START, [0.0, 3.0], None, "dop853-fixed", step=step).final["x"] - exact[-1])
        .abs()
        .max()
        for step in steps
    ]
    assert 7.7 < slope(torch.tensor(steps), torch.stack(errors)) < 9.3


@pytest.mark.parametrize("tolerance", [1e-6, 1e-9, 1e-12])
def test_dense_output_is_as_good_as_scipys(tolerance: float) -> None:
    exact, _ = _scipy(1e-13)
    oracle, evaluations = _scipy(tolerance)
    path = integrate(
        GradientFlow(valley), START, TIMES, None, "dop853", rtol=tolerance, atol=tolerance, estimate_error=False
    )
    assert path.completed
    error, known = float((path.params["x"] - exact).abs().max()), float((oracle - exact).abs().max())
    assert error < 3 * max(known, tolerance)
    assert path.evaluations < 1.3 * evaluations


def test_fine_tolerances_cost_a_third_of_order_five() -> None:
    fifth, eighth = (
        integrate(GradientFlow(valley), START, [0.0, 3.0], None, method, rtol=1e-12, atol=1e-12)
        for method in ("dopri5", "dop853")
    )
    assert 2.5 * eighth.evaluations < fifth.evaluations
    assert float((fifth.final["x"] - eighth.final["x"]).abs().max()) < 1e-11


def test_states_in_between_are_those_of_the_solution() -> None:
    """x' = x: the steps are far longer than the distances of the times asked for."""
    flow = GradientFlow(lambda p: -p["x"].square().sum() / 2)
    path = integrate(flow, {"x": torch.tensor([1.0])}, TIMES, None, "dop853", rtol=1e-11, atol=1e-12)
    expected = torch.tensor([[math.exp(t)] for t in TIMES], dtype=torch.float64)
    torch.testing.assert_close(path.params["x"], expected, rtol=1e-9, atol=0)


def test_kinks_are_left_to_order_five() -> None:
    loss = network_loss("relu")
    with pytest.raises(ValueError, match="use 'dopri5'"):
        integrate(GradientFlow(loss), loss.theta0, [0.0, 1.0], None, "dop853")
