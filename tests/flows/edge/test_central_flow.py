"""The central flow on losses where the average of descent is known in closed form."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from neuralmechanics.flows import (
    CentralFlow,
    GradientFlow,
    descend,
    integrate,
    law_rate,
    module_loss,
    sharpness,
    velocity,
)
from neuralmechanics.flows.edge.oscillation import Oscillation
from neuralmechanics.flows.equation.layout import Layout

from ..problems import point

RATE = 0.5
PULL = 0.02


def valley(params: dict[str, Tensor]) -> Tensor:
    """½ y x² - cy: a straight valley that grows steeper at the rate c, until x² = 2c on average holds it."""
    x, y = params["x"]
    return y * x.square() / 2 - PULL * y


def matrix_valley(params: dict[str, Tensor]) -> Tensor:
    """½ xᵀYx - ⟨C, Y⟩ for a symmetric Y: held at 2/η, the covariance of x is twice the positive part of C."""
    curvature = (params["y"] + params["y"].T) / 2
    return params["x"] @ curvature @ params["x"] / 2 - (TREND * curvature).sum()


TREND = torch.tensor([[0.03, 0.01, 0.0], [0.01, 0.02, 0.0], [0.0, 0.0, -0.05]], dtype=torch.float64)


def test_below_the_edge_it_is_gradient_flow() -> None:
    start = point(0.3, 2.0)
    central = velocity(CentralFlow(valley, learning_rate=RATE), start)["x"]
    assert torch.equal(central, velocity(GradientFlow(valley), start)["x"])


def test_the_edge_is_reached_and_never_passed() -> None:
    flow = CentralFlow(valley, learning_rate=RATE)
    start = point(0.0, 3.9)
    path = integrate(flow, start, [0.0, 2.0, 8.0, 12.0], estimate_error=False)
    heights = path.params["x"][:, 1]
    # Far below the edge y rises at the rate c; at the edge it stays.
    assert float(heights.max()) <= 4 + 1e-9
    assert float(heights[-1]) == pytest.approx(4.0, abs=1e-3)
    held = flow.oscillation(path.final)
    assert held.variance == pytest.approx(2 * PULL, rel=1e-2)
    # L + tr Σ/η: what the valley gains by height the oscillation pays.
    assert held.loss == pytest.approx(-PULL * 4 + held.variance / RATE, abs=1e-12)


@pytest.mark.parametrize("relaxation", [1.0, 4.0])
@pytest.mark.parametrize("above", [0.2, -0.1])
def test_the_edge_is_neared_in_so_many_steps(relaxation: float, above: float) -> None:
    """y' = (2/η - y)/(τη) where the oscillation holds it, above the edge; below, no faster than it rises by itself."""
    rise = velocity(CentralFlow(valley, learning_rate=RATE, relaxation=relaxation), point(0.0, 4 + above))["x"][1]
    assert float(rise) == pytest.approx(min(PULL, -above / (relaxation * RATE)), rel=1e-9)


def test_variance_is_that_of_descent() -> None:
    """Descent on the valley circles about y = 2/η: the average of its x² is the 2c that holds y."""

    def damped(params: dict[str, Tensor]) -> Tensor:
        # Steps of finite length would widen the circles for ever.
        return valley(params) + 0.05 * (params["x"][1] - 2 / RATE).square()

    start = point(0.1, 4.0)
    path = descend(damped, start, lambda tensors: torch.optim.SGD(tensors, lr=RATE), 400)
    states = path.params["x"][200:]
    assert float(states[:, 0].square().mean()) == pytest.approx(2 * PULL, rel=0.02)
    assert float(states[:, 1].mean()) == pytest.approx(2 / RATE, rel=0.01)
    centre = point(0.0, 2 / RATE)
    assert CentralFlow(damped, learning_rate=RATE).oscillation(centre).variance == pytest.approx(2 * PULL, rel=1e-9)


def test_only_averages_over_whole_cycles_are_the_flows() -> None:
    """Above the edge x grows until it throws y back below: over a whole cycle x² is 2c, over a part anything.

    So what a flow of averages is compared with must span a cycle, as in ``benchmarks/edge_of_stability.py``.
    """
    run = descend(valley, point(0.1, 4.0), lambda tensors: torch.optim.SGD(tensors, lr=RATE), 400).params["x"]
    square, above = run[:, 0].square(), run[:, 1] > 2 / RATE
    held = CentralFlow(valley, learning_rate=RATE).oscillation(point(0.0, 2 / RATE)).variance
    # A cycle goes from where y comes above the edge to where it does again.
    begins = ((above[1:] & ~above[:-1]).nonzero().flatten() + 1).tolist()
    assert len(begins) > 4
    for first, end in itertools.pairwise(begins):
        assert float(square[first:end].mean()) == pytest.approx(held, rel=0.02)
        # The third about the largest swing, where y comes below the edge.
        turn, sixth = first + int(above[first:end].sum()), (end - first) // 6
        assert float(square[turn - sixth : turn + sixth].mean()) > 1.3 * held


def test_covariance_of_several_directions() -> None:
    flow = CentralFlow(matrix_valley, learning_rate=RATE)
    start = {"x": torch.zeros(3, dtype=torch.float64), "y": (2 / RATE) * torch.eye(3, dtype=torch.float64)}
    found = flow.oscillation(start)
    covariance = found.directions @ found.covariance @ found.directions.T
    values, vectors = torch.linalg.eigh(TREND)
    expected = 2 * vectors @ torch.diag(values.clamp(min=0)) @ vectors.T
    torch.testing.assert_close(covariance[:3, :3], expected, rtol=1e-7, atol=1e-9)


def test_the_centre_is_held_on_a_curved_edge() -> None:
    """On ½(xy - 1)² the minima of sharpness x² + y² = 2/η are where the flow must stay."""

    def product(params: dict[str, Tensor]) -> Tensor:
        x, y = params["x"]
        return (x * y - 1).square() / 2

    flow = CentralFlow(product, learning_rate=RATE)
    start = point(2.6, 0.3)
    final = integrate(flow, start, [0.0, 20.0], estimate_error=False).require_completed().final
    x, y = final["x"].tolist()
    assert x * y == pytest.approx(1.0, abs=1e-6)
    assert x**2 + y**2 == pytest.approx(2 / RATE, rel=1e-6)
    assert x**2 - y**2 == pytest.approx(math.sqrt((2 / RATE) ** 2 - 4), rel=1e-6)


def test_sums_of_weights_are_not_lifted_by_an_oscillation() -> None:
    """Squared norms are, by tr(MΣ); a translation is linear, and its average that of the centre."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    batch = torch.randn(20, 3).double(), torch.randint(3, (20,))

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    symmetries = find_symmetries(model, batch, loss_fn)
    assert {"translation", "rescale"} <= set(symmetries.kinds)
    theta = {name: p.detach() for name, p in model.named_parameters()}
    layout = Layout.of(theta)
    directions = torch.randn(layout.size, 2, dtype=torch.float64)
    covariance = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    zero, at = torch.zeros(2, dtype=torch.float64), layout.flatten(theta)
    swinging = Oscillation(
        zero, directions, covariance, directions, at, at, 0.0, at, largest=lambda x: 0.0, layout=layout
    )
    sides = [layout.unflatten(direction) for direction in directions.T]
    expected = sum(covariance[i, j] * symmetries.pair(sides[i], sides[j]) for i in range(2) for j in range(2))
    lifted = torch.where(symmetries.quadratic, expected, torch.zeros_like(expected))
    torch.testing.assert_close(swinging.spread(symmetries), lifted, rtol=1e-10, atol=1e-10)
    assert float(swinging.variance) == pytest.approx(float((directions @ covariance * directions).sum()))


def test_hyperparameters_are_checked() -> None:
    with pytest.raises(ValueError, match="learning_rate"):
        CentralFlow(valley, learning_rate=0.0)
    with pytest.raises(ValueError, match="relaxation"):
        CentralFlow(valley, learning_rate=0.1, relaxation=0.0)


def test_charges_move_by_the_oscillation_alone() -> None:
    """Q' = 2tr(MHΣ) of a linear pair, whatever the third derivatives: descent's η⟨g, Mg⟩ on average."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    batch = torch.randn(20, 3).double(), torch.randn(20, 2).double()

    def squares(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (model(batch[0]) - batch[1]).square().sum(1).mean() / 2

    loss, symmetries = module_loss(model, squares, batch), find_symmetries(model, batch, squares)
    # Every eigenvalue above a third of the sharpness is held: several directions at once.
    flow = CentralFlow(loss, learning_rate=2 / (0.4 * sharpness(loss, loss.theta0)), weight_decay=0.01)
    moved = velocity(flow, loss.theta0)
    expected = torch.where(symmetries.quadratic, 2.0, 1.0) * symmetries.residual(moved, loss.theta0)
    assert flow.oscillation(loss.theta0).variance > 0
    torch.testing.assert_close(law_rate(flow, loss.theta0, symmetries), expected, rtol=1e-6, atol=1e-9)
    assert float(expected.abs().max()) > 1e-2
