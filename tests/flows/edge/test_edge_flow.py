"""The edge flow: gradient flow without an oscillation, growth by ηλ - 1 a step, its orbits and its equilibria."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from neuralmechanics.flows import EdgeFlow, EdgeRMSpropFlow, GradientFlow, RodFlow, descend, integrate, velocity
from neuralmechanics.functional.derivatives.higher_derivatives import NoDerivativeError

from ..problems import point, tanh_mlp, tanh_mlp_start

RATE, PULL, EDGE = 0.5, 0.02, 4.0


def valley(params: dict[str, Tensor]) -> Tensor:
    """½yx² - cy: grows steeper at the rate c until x² = 2c on average holds it."""
    x, y = params["x"]
    return y * x.square() / 2 - PULL * y


def test_without_oscillation_it_is_gradient_flow() -> None:
    start = tanh_mlp_start()
    still = {name: torch.zeros_like(value) for name, value in start.items()}
    flow = EdgeFlow(tanh_mlp, learning_rate=0.3, swing=still)
    path = integrate(flow, start, [0.0, 1.0], None, "rk4", step=0.1, estimate_error=False)
    plain = integrate(GradientFlow(tanh_mlp), start, [0.0, 1.0], None, "rk4", step=0.1, estimate_error=False)
    for name, value in path.final.items():
        torch.testing.assert_close(value, plain.final[name], rtol=1e-14, atol=1e-14)
        assert float(path.beside(-1)["swing"][name].abs().max()) == 0


@pytest.mark.parametrize("steepness", [3.0, 3.9, 4.1])
def test_growth_is_that_of_descent(steepness: float) -> None:
    """On ½λx² an iterate is multiplied by 1 - ηλ a step: so is the size, whose sign has been turned back."""
    swing = point(0.01)
    flow = EdgeFlow(lambda p: steepness * p["x"].square().sum() / 2, learning_rate=RATE, swing=swing)
    path = integrate(flow, point(0.0), [0.0, 8 * RATE], None, "rk4", step=0.1, estimate_error=False)
    run = descend(flow.loss, swing, lambda p: torch.optim.SGD(p, lr=RATE), 8)
    assert path.beside(-1)["swing"]["x"].item() == pytest.approx(run.final["x"].item(), rel=1e-4)


@pytest.mark.parametrize("steepness", [2.2, 2.0, 0.4, 0.0, -3.0])
def test_in_the_flat_it_shrinks_as_a_rod_does(steepness: float) -> None:
    """Where ηλ - 1 is below e^-2, by e^-2 a step, on slopes that bend down as well."""
    flow = EdgeFlow(lambda p: steepness * p["x"].square().sum() / 2, learning_rate=RATE, swing=point(0.01))
    equation = flow.system(point(0.0))
    change = next(equation.pieces(0.0, 1.0)).field(equation.initial)
    assert float(change[1]) == pytest.approx(-2 / RATE * 0.01, rel=1e-12)


def test_direction_climbs_to_the_top_eigenvector() -> None:
    """The parts along eigenvectors grow by e^{λt} against each other, as under the equation of Rayleigh's quotient."""
    curvature = torch.tensor([3.0, 3.9, 4.05], dtype=torch.float64)
    swing = torch.tensor([0.01, 0.01, 0.001], dtype=torch.float64)
    flow = EdgeFlow(lambda p: (curvature * p["x"].square()).sum() / 2, learning_rate=RATE, swing={"x": swing})
    path = integrate(flow, point(0.0, 0.0, 0.0), [0.0, 6.0], None, "rk4", step=0.1, estimate_error=False)
    found = path.beside(-1)["swing"]["x"]
    expected = swing * torch.exp(6.0 * curvature)
    torch.testing.assert_close(found / found.norm(), expected / expected.norm(), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_cubic_term_holds_the_sharpness_in_closed_orbits() -> None:
    """∫log(ηy - 1)dy/η + a²/4 - c log a is conserved: the height turns where the sharpness has been pushed back."""
    flow = EdgeFlow(valley, learning_rate=RATE, swing=point(0.1, 0.0))
    times = torch.linspace(0.0, 40.0, 41, dtype=torch.float64)
    path = integrate(flow, point(0.0, 3.9), times, None, "rk4", step=0.25, estimate_error=False)
    height, swing = path.params["x"][:, 1], path.companions["swing"]["x"][:, 0]
    excess = RATE * height - 1
    conserved = (excess * excess.log() - excess) / RATE**2 + swing.square() / 4 - PULL * swing.log()
    assert float((conserved - conserved[0]).abs().max()) < 1e-5
    assert float(height.max()) > EDGE + 0.05 > EDGE > float(height.min())


def test_near_the_edge_it_agrees_with_the_rod_to_second_order_in_the_swing() -> None:
    """Their centres move alike; their swings part by the third power, the curvature between ends against at the centre.

    Measured at the edge itself, where log(ηλ - 1) and ηλ - 2 agree.
    """

    def bent(params: dict[str, Tensor]) -> Tensor:
        x = params["x"]
        return (EDGE * x.square() / 2 - x**4 / 4).sum()

    gaps = []
    for size in (0.2, 0.1):
        edge, rod = (kind(bent, learning_rate=RATE, swing=point(size)) for kind in (EdgeFlow, RodFlow))
        (first, second) = (next(flow.system(point(0.0)).pieces(0.0, 1.0)).field for flow in (edge, rod))
        state = torch.tensor([0.0, size], dtype=torch.float64)
        gaps.append(float((first(state) - second(state)).norm()))
    assert math.log2(gaps[0] / gaps[1]) == pytest.approx(3.0, abs=0.01)


@pytest.mark.slow
def test_of_rmsprop_rests_where_training_does() -> None:
    rate, steepness = 0.02, 3.0
    edge = (rate * steepness / 2) ** 2
    flow = EdgeRMSpropFlow(
        lambda p: steepness * p["x"].square().sum() / 2,
        learning_rate=rate,
        smoothing=0.9,
        eps=0.0,
        swing=point(0.004),
        squares=point(1.3 * edge),
    )
    path = integrate(
        flow, point(0.0), [0.0, 200 * rate], None, "rk4", step=rate, estimate_error=False
    ).require_completed()
    about = flow.oscillation(path.final, **path.beside(-1))
    assert about.sharpness == pytest.approx(2.0, rel=5e-3)
    assert about.variance == pytest.approx(rate**2 / 4, rel=5e-3)


def test_of_rmsprop_without_oscillation_is_preconditioned_descent() -> None:
    start = tanh_mlp_start()
    still = {name: torch.zeros_like(value) for name, value in start.items()}
    found = velocity(EdgeRMSpropFlow(tanh_mlp, learning_rate=1e-4, eps=1e-3, swing=still), start)
    for name, downhill in velocity(GradientFlow(tanh_mlp), start).items():
        torch.testing.assert_close(found[name], downhill / (downhill.abs() + 1e-3), rtol=1e-9, atol=1e-12)


def test_a_loss_without_second_derivatives_is_refused() -> None:
    """Where a part moves with the parameters and is detached, H would be wrong."""

    def detached(params: dict[str, Tensor]) -> Tensor:
        x = params["x"]
        return (x.detach() * x**2).sum()

    with pytest.raises(NoDerivativeError, match="order 2"):
        EdgeFlow(detached, learning_rate=0.1).system(point(1.0, 2.0))
    assert RodFlow(detached, learning_rate=0.1).system(point(1.0, 2.0)).layout.size == 2


def test_hyperparameters_are_checked() -> None:
    with pytest.raises(ValueError, match="weight_decay"):
        EdgeFlow(valley, learning_rate=0.1, weight_decay=-1.0)
    with pytest.raises(ValueError, match="smoothing"):
        EdgeRMSpropFlow(valley, learning_rate=0.1, smoothing=1.5)
