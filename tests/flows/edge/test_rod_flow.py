"""The rod flow: descent itself in Euler's steps, gradient flow below the edge, closed orbits and cycles above it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from neuralmechanics.flows import (
    GradientFlow,
    RodFlow,
    RodRMSpropFlow,
    descend,
    integrate,
    law_rate,
    module_loss,
    velocity,
)
from neuralmechanics.flows.edge.two_ended import Ends, _outlive_rounding
from neuralmechanics.flows.equation.examples import two_weight_path

from ..problems import point, tanh_mlp, tanh_mlp_start

RATE, PULL, EDGE = 0.5, 0.02, 4.0


def valley(params: dict[str, Tensor]) -> Tensor:
    """½yx² - cy: grows steeper at the rate c until x² = 2c on average holds it."""
    x, y = params["x"]
    return y * x.square() / 2 - PULL * y


@pytest.mark.parametrize("rate", [pytest.param(0.1, marks=pytest.mark.slow), 1.0])
def test_with_steps_of_euler_it_is_descent(rate: float) -> None:
    """Centre less or plus swing, in turn, are the iterates, on any loss and at any rate."""
    start = tanh_mlp_start()
    steps = 7
    times = [rate * k for k in range(steps + 1)]
    flow = RodFlow(tanh_mlp, learning_rate=rate, weight_decay=0.01)
    path = integrate(flow, start, times, None, "euler", step=rate, estimate_error=False).require_completed()
    run = descend(tanh_mlp, start, lambda p: torch.optim.SGD(p, lr=rate, weight_decay=0.01), steps + 1)
    for k in range(steps + 1):
        sign = -1 if k % 2 == 0 else 1
        for name, centre in path.at(k).items():
            swing = path.beside(k)["swing"][name]
            torch.testing.assert_close(centre + sign * swing, run.at(k)[name], rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(centre - sign * swing, run.at(k + 1)[name], rtol=1e-10, atol=1e-10)


def test_without_swing_it_is_gradient_flow() -> None:
    start = tanh_mlp_start()
    still = {name: torch.zeros_like(value) for name, value in start.items()}
    flow = RodFlow(tanh_mlp, learning_rate=0.3, swing=still)
    for name, downhill in velocity(GradientFlow(tanh_mlp), start).items():
        torch.testing.assert_close(velocity(flow, start)[name], downhill, rtol=0, atol=0)
    about = flow.oscillation(start, still)
    assert about.variance == 0
    assert about.sharpness_of_iterates == about.sharpness
    assert about.loss == pytest.approx(float(tanh_mlp(start)), rel=1e-14)


def test_quadratic_in_closed_form() -> None:
    """The centre falls as e^{-λt}, the swing as e^{(λ - 2/η)t}: it grows beyond 2/η and nowhere below."""
    curvature = torch.tensor([1.0, 3.9, 4.2], dtype=torch.float64)
    flow = RodFlow(lambda p: (curvature * p["x"].square()).sum() / 2, learning_rate=RATE, swing=point(0.1, 0.2, 0.3))
    path = integrate(
        flow, point(1.0, -1.0, 2.0), [0.0, 1.0, 3.0], None, "dop853", rtol=1e-11, atol=1e-13, estimate_error=False
    )
    for k, t in enumerate(path.times.tolist()):
        expected = torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64) * torch.exp(-curvature * t)
        grown = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64) * torch.exp((curvature - 2 / RATE) * t)
        torch.testing.assert_close(path.at(k)["x"], expected, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(path.beside(k)["swing"]["x"], grown, rtol=1e-8, atol=1e-10)


def test_the_cubic_term_holds_the_sharpness_in_closed_orbits() -> None:
    """½(y - 2/η)² + v²/4 - c log v is conserved, and over an orbit y is 2/η and v² is 2c on average."""
    flow = RodFlow(valley, learning_rate=RATE, swing=point(0.1, 0.0))
    times = torch.linspace(0.0, 120.0, 121, dtype=torch.float64)
    path = integrate(flow, point(0.0, 3.9), times, None, "rk4", step=0.25, estimate_error=False)
    height, swing = path.params["x"][:, 1], path.companions["swing"]["x"][:, 0]
    conserved = (height - EDGE).square() / 2 + swing.square() / 4 - PULL * swing.log()
    assert float((conserved - conserved[0]).abs().max()) < 1e-5 * float(conserved[0])
    assert float(height.max()) > EDGE + 0.05  # a cycle, not the edge itself
    # Less what the last, unfinished period leaves over.
    rise, growth = float(height[-1] - height[0]) / 120, float((swing[-1] / swing[0]).log()) / 120
    assert float(torch.trapezoid(height, times)) / 120 == pytest.approx(EDGE + growth, abs=1e-3)
    assert float(torch.trapezoid(swing.square(), times)) / 120 == pytest.approx(2 * (PULL - rise), rel=1e-2)
    assert abs(rise) < PULL / 5
    assert abs(growth) < 0.02


def test_the_quartic_term_stops_it_at_the_cycle_of_two_steps() -> None:
    """On λx²/2 - x⁴/4 descent jumps between ±√(λ - 2/η), and the rod comes to rest with these ends."""
    steepness = 4.3
    flow = RodFlow(lambda p: (steepness * p["x"] ** 2 / 2 - p["x"] ** 4 / 4).sum(), learning_rate=RATE)
    path = integrate(flow, point(0.3), [0.0, 40.0], None, "rk4", step=RATE, estimate_error=False)
    about = flow.oscillation(path.final, **path.beside(-1))
    assert about.variance == pytest.approx(steepness - 2 / RATE, rel=1e-9)
    assert about.values.tolist() == pytest.approx([2 / RATE], rel=1e-9)
    # S = λ - 3x² at the ends.
    assert about.sharpness == pytest.approx(steepness, rel=1e-9)
    assert about.sharpness_of_iterates == pytest.approx(steepness - 3 * (steepness - 2 / RATE), rel=1e-9)
    cycle = descend(flow.loss, point(0.3), lambda p: torch.optim.SGD(p, lr=RATE), 400).params["x"][-2:, 0]
    assert float(cycle.square().mean()) == pytest.approx(about.variance, rel=1e-6)


@pytest.mark.slow
def test_balance_is_broken_at_the_edge_as_descent_breaks_it() -> None:
    """Q ← Q(1 - η²e²) on ½(xy - 1)²: the rod's charge goes the same way within a few per cent."""
    start, steps = point(2.0, 0.55), 80
    rate = 2.02 / float(start["x"].square().sum())

    def charge(x: Tensor) -> float:
        return float(x[0] ** 2 - x[1] ** 2)

    run = descend(two_weight_path, start, lambda p: torch.optim.SGD(p, lr=rate), steps + 1).params["x"]
    path = integrate(RodFlow(two_weight_path, learning_rate=rate), start, [0.0, rate * steps], estimate_error=False)
    swing = path.beside(-1)["swing"]["x"]
    predicted = charge(path.final["x"]) + charge(swing)
    lost = charge(start["x"]) - (charge(run[-1]) + charge(run[-2])) / 2
    assert lost > 0.01 * charge(start["x"])
    assert charge(start["x"]) - predicted == pytest.approx(lost, rel=0.05)


def test_charges_move_by_the_swing_alone() -> None:
    """Q' = 2⟨v, M(g₊ - g₋)/2⟩ - 2λQ of a linear pair, for a swing of any size."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    batch = torch.randn(20, 3).double(), torch.randn(20, 2).double()

    def squares(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (model(batch[0]) - batch[1]).square().sum(1).mean() / 2

    loss, symmetries = module_loss(model, squares, batch), find_symmetries(model, batch, squares)
    swing = {name: 0.3 * torch.randn_like(value) for name, value in loss.theta0.items()}
    flow = RodFlow(loss, learning_rate=0.2, weight_decay=0.01, swing=swing)
    moved = velocity(flow, loss.theta0)
    expected = torch.where(symmetries.quadratic, 2.0, 1.0) * symmetries.residual(moved, loss.theta0)
    torch.testing.assert_close(law_rate(flow, loss.theta0, symmetries), expected, rtol=1e-10, atol=1e-12)
    assert float(expected.abs().max()) > 1e-2


def test_a_swing_lost_in_rounding_comes_back_past_the_edge() -> None:
    """Far below the edge a swing shrinks by e^{-2} a step; as in training, rounding keeps a trace that grows again."""

    def ramp(params: dict[str, Tensor]) -> Tensor:
        x, y = params["x"]
        return y * x.square() / 2 - 0.1 * y

    flow = RodFlow(ramp, learning_rate=RATE, swing=point(1e-3, 0.0))
    path = integrate(flow, point(0.0, 1.0), [0.0, 25.0, 90.0], None, "rk4", step=RATE, estimate_error=False)
    assert 0 < abs(float(path.beside(1)["swing"]["x"][0])) < 1e-15
    # Without a swing the ramp would be climbed to 10.
    assert float(path.final["x"][1]) < 8


@pytest.mark.parametrize(("size", "pull", "kept"), [(1e-17, -2.0, True), (1e-12, -2.0, False), (1e-17, 0.5, False)])
def test_only_what_would_end_a_swing_of_rounding_is_taken_off(size: float, pull: float, kept: bool) -> None:
    """A larger swing shrinks, and a small one may grow; what turns it stays."""
    swing, aside = torch.tensor([size, 0.0]).double(), torch.tensor([0.0, 3.0]).double()
    zero = torch.zeros(2, dtype=torch.float64)
    turn = _outlive_rounding(Ends(zero, swing, zero, zero, zero + 1), pull * swing + aside)
    torch.testing.assert_close(turn, aside if kept else pull * swing + aside, rtol=1e-14, atol=0)


def test_of_rmsprop_rests_where_training_does() -> None:
    """On ½sx² at √ν = ηs/2 with v² = η²/4, from a small swing and too small a ν."""
    rate, steepness, smoothing = 0.02, 3.0, 0.9
    edge = (rate * steepness / 2) ** 2
    flow = RodRMSpropFlow(
        lambda p: steepness * p["x"].square().sum() / 2,
        learning_rate=rate,
        smoothing=smoothing,
        eps=0.0,
        swing=point(0.004),
        squares=point(1.3 * edge),
    )
    path = integrate(
        flow, point(0.0), [0.0, 200 * rate], None, "rk4", step=rate, estimate_error=False
    ).require_completed()
    beside = path.beside(-1)
    about = flow.oscillation(path.final, **beside)
    assert beside["squares"]["x"].item() == pytest.approx(edge, rel=5e-3)
    assert about.sharpness == pytest.approx(2.0, rel=5e-3)
    assert about.variance == pytest.approx(rate**2 / 4, rel=5e-3)


def test_of_rmsprop_with_steps_of_euler_is_rmsprop_to_first_order_in_its_memory() -> None:
    """One step after another against torch: the distance falls with 1 - α, which is how far ν lags."""
    start, rate, steps = tanh_mlp_start(), 0.3, 4
    distances = []
    for memory in (0.02, 0.01, 0.005):
        settled = {name: torch.ones_like(value) for name, value in start.items()}
        flow = RodRMSpropFlow(tanh_mlp, learning_rate=rate, smoothing=1 - memory, squares=settled)
        path = integrate(flow, start, [0.0, rate * steps], None, "euler", step=rate, estimate_error=False)

        def prepared(tensors: list[Tensor], memory: float = memory) -> torch.optim.Optimizer:
            optimizer = torch.optim.RMSprop(tensors, lr=rate, alpha=1 - memory)
            for tensor in tensors:
                optimizer.state[tensor] = {"step": torch.zeros(()), "square_avg": torch.ones_like(tensor)}
            return optimizer

        run = descend(tanh_mlp, start, prepared, steps + 1)
        swing = path.beside(-1)["swing"]
        ends = {name: centre - swing[name] for name, centre in path.final.items()}
        miss = [(ends[name] - run.at(steps)[name]).square().sum() for name in ends]
        distances.append(math.sqrt(sum(map(float, miss))))
    assert distances[0] > 1.6 * distances[1] > 1.6**2 * distances[2] > 0


def test_hyperparameters_are_checked() -> None:
    with pytest.raises(ValueError, match="learning_rate"):
        RodFlow(valley, learning_rate=0.0)
    with pytest.raises(ValueError, match="smoothing"):
        RodRMSpropFlow(valley, learning_rate=0.1, smoothing=1.0)
