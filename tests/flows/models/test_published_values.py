"""Numbers of others: data-set charges, the principal flow beyond hλ = 1, order 8 with the usual integrator."""

from __future__ import annotations

import pytest
import torch

from neuralmechanics.flows import GradientFlow, ModifiedFlow, PrincipalFlow, descend, integrate
from neuralmechanics.flows.comparison.sweep import slope
from neuralmechanics.flows.equation.data_set_charges import DATA_SET_POTENTIALS, DataSetCharges
from neuralmechanics.flows.equation.layout import Layout

from ..problems import tanh_mlp, tanh_mlp_start

SIGMA = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu}


@pytest.mark.parametrize("activation", SIGMA)
def test_potentials_are_integrals_of_the_generator(activation):
    """Φ' = σ/σ', by automatic differentiation of both."""
    z = torch.linspace(-1.5, 1.5, 12, dtype=torch.float64, requires_grad=True)
    (steepness,) = torch.autograd.grad(SIGMA[activation](z).sum(), z)
    (potential,) = torch.autograd.grad(DATA_SET_POTENTIALS[activation](z).sum(), z)
    on = steepness > 0
    assert torch.allclose(potential[on], (SIGMA[activation](z) / steepness)[on], rtol=1e-12)
    assert bool((potential[~on] == 0).all())


@pytest.mark.parametrize("activation", SIGMA)
def test_data_set_charges_are_conserved_at_the_identity_alone(activation):
    """Zhao et al.: at X = 1 to the integrator's error; on other data, and with the norms in their place, they move."""
    draw = torch.Generator().manual_seed(1)
    normal = lambda *size: torch.randn(*size, generator=draw, dtype=torch.float64)  # noqa: E731
    theta0, target, other = (
        {"U": normal(3, 4), "V": 0.7 * normal(4, 5)},
        normal(3, 5),
        torch.eye(5) + 0.5 * normal(5, 5),
    )

    def loss(data: torch.Tensor):
        return lambda p: (p["U"] @ SIGMA[activation](p["V"] @ data) - target).square().mean()

    charges = DataSetCharges(activation, "V", "U", units=4)
    method = "dopri5" if activation == "relu" else "rk4"
    options = {} if activation == "relu" else {"step": 0.02}
    drift = {}
    for name, data in (("identity", torch.eye(5, dtype=torch.float64)), ("other", other)):
        path = integrate(
            GradientFlow(loss(data)), theta0, [0, 1, 2, 4], charges, method=method, **options, estimate_error=False
        )
        values = path.require_completed().charges
        drift[name] = float((values - values[0]).abs().max())
    assert drift["identity"] < 2e-7
    # ReLU's charge is half a difference of squared norms for units that are on: that one holds on any data.
    assert drift["other"] > (1e-3 if activation != "relu" else 1e-6)


@pytest.mark.parametrize("reach", [0.5, 1.5, 1.9, 2.3])
def test_the_alternating_principal_flow_meets_descent_with_its_sign(reach):
    """On a quadratic, hλ up to 2.3: x_n = (1 - hλ)^n, which changes sign with n beyond hλ = 1."""
    rate = reach / 4
    loss = lambda p: 2 * p["x"][0] ** 2 + 0.5 * p["x"][1] ** 2  # noqa: E731
    theta0 = {"x": torch.tensor([1.0, -0.7], dtype=torch.float64)}
    times = [rate * k for k in range(6)]
    flow = PrincipalFlow(loss, learning_rate=rate, alternating=True)
    fixed = {"method": "dopri5-fixed", "step": rate / 12, "estimate_error": False}
    path = integrate(flow, theta0, times, **fixed).require_completed()
    expected = torch.stack([torch.tensor([(1 - reach) ** k, -0.7 * (1 - rate) ** k]) for k in range(6)]).double()
    assert torch.allclose(path.params["x"], expected, atol=1e-5)
    assert bool((path.params["x"][1::2, 0] < 0).all()) == (reach > 1)
    still = integrate(PrincipalFlow(loss, learning_rate=rate), theta0, times, **fixed).require_completed()
    assert torch.allclose(still.params["x"][:, 0], expected[:, 0].abs(), atol=1e-5)


def test_order_eight_is_seen_with_the_integrator_that_nobody_chose():
    """At the optimiser's own step rk4 leaves its own h⁴ in place of the flow's h⁸."""
    theta0, horizon = tanh_mlp_start(), 1.0
    layout = Layout.of(theta0)

    def error(count: int, method: str) -> float:
        rate = horizon / count
        run = descend(tanh_mlp, theta0, lambda p: torch.optim.SGD(p, lr=rate), count, every=count)
        flow = ModifiedFlow(tanh_mlp, learning_rate=rate, order=8)
        path = integrate(flow, theta0, [0, horizon], method=method, estimate_error=False).require_completed()
        return float((layout.flatten(path.final) - layout.flatten(run.final)).norm())

    rates, errors = torch.tensor([horizon / 5, horizon / 6]), torch.tensor([error(5, "auto"), error(6, "auto")])
    assert slope(rates, errors) == pytest.approx(8, abs=0.6)
    assert error(22, "auto") < 0.15 * error(22, "rk4")
