"""Laws under weight decay, heavy ball and sign descent: counts, and the laws themselves along integrated flows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from neuralmechanics.diagnostics.counting.counting import count_laws
from neuralmechanics.diagnostics.counting.known_laws import known_laws
from neuralmechanics.diagnostics.counting.optimizer_fields import (
    GradientFlow,
    HeavyBall,
    OptimizerFlow,
    SignDescent,
    WeightDecay,
    optimizer_flow,
)
from neuralmechanics.diagnostics.counting.point_moves import fresh_place
from neuralmechanics.diagnostics.counting.potentials import Potentials

from .networks import cross_entropy, feed_forward, linear_network, one, relu_network
from .stand_ins import LinearPair, Translation


def three_over_t(time: Tensor) -> Tensor:
    return 3 / time


@pytest.mark.parametrize(
    "friction",
    [
        pytest.param(0.0, id="0", marks=pytest.mark.slow),
        pytest.param(0.3, id="0.3"),
        pytest.param(three_over_t, id="3/t", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(("n", "m", "r", "laws"), [(2, 2, 2, 1), (1, 1, 1, 0)])
def test_heavy_ball_keeps_rotations_only(
    friction: float | Callable[[Tensor], Tensor], n: int, m: int, r: int, laws: int
) -> None:
    count = count_laws(linear_network(n, r, m), one(n), optimizer=HeavyBall(friction), symmetries=())
    assert count.upper == laws
    assert count.phase_dimension == 2 * count.parameters + 1
    assert count.worst_gap.ratio > 1e4


@pytest.mark.slow
@pytest.mark.parametrize("friction", [0.0, 0.3, three_over_t], ids=["0", "0.3", "3/t"])
def test_heavy_ball_wide_middle(friction: float | Callable[[Tensor], Tensor]) -> None:
    assert count_laws(linear_network(2, 3, 1), one(2), optimizer=HeavyBall(friction), symmetries=()).upper == 3


@pytest.mark.parametrize(("width", "laws"), [(1, 0), (2, 2), (3, 6), (4, 10)])
def test_heavy_ball_of_a_single_input_and_output(width: int, laws: int) -> None:
    """u·v alone is seen: u + v and u - v keep an angular momentum each; for width 2 and 3 they are independent."""
    count = count_laws(linear_network(1, width, 1), one(1), optimizer=HeavyBall(0.3))
    assert (count.lower, count.upper) == (laws, laws)
    assert count.certified
    assert not count.unexplained


def test_heavy_ball_keeps_two_laws_a_translation() -> None:
    model, batch = nn.Linear(1, 2, bias=False), (torch.zeros(2, 1), torch.tensor([0, 1]))
    count = count_laws(
        model, batch, cross_entropy, HeavyBall(0.3, weight_decay=0.1), symmetries=[Translation("weight", 0)]
    )
    assert (count.lower, count.upper) == (2, 2)
    assert count.certified


@pytest.mark.parametrize("optimizer", ["gradient_flow", "weight_decay"])
def test_weight_decay_keeps_every_charge_with_time(optimizer: str) -> None:
    model = linear_network(2, 2, 3)
    count = count_laws(model, one(2), optimizer=optimizer, symmetries=[LinearPair("0.weight", "1.weight", 2)])
    assert (count.lower, count.upper) == (3, 3)
    assert count.certified


def test_weight_decay_keeps_no_charge_of_a_gain_about_one() -> None:
    """It pulls w and not 1 + w: the charge (1 + w)² - |column|² of gradient flow has no factor that makes it last."""

    class Gain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.v = nn.Parameter(torch.full((2,), 0.3)), nn.Parameter(torch.tensor([[0.5, -0.7]]))

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x) * (1 + self.w) @ self.v.T

    model = Gain().double()
    symmetries = find_symmetries(model, one(2).double())
    assert symmetries.count()["rescale"] == 2
    for optimizer, laws in (("gradient_flow", 2), ("weight_decay", 0)):
        count = count_laws(model, one(2).double(), optimizer=optimizer, symmetries=symmetries)
        assert (count.lower, count.upper) == (laws, laws)


def test_weight_decay_separates_degrees() -> None:
    # f = u x + v² has the law of gradient flow log|v| - 2u + …, which is no sum of homogeneous ones
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.u, self.v = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))

        def forward(self, x: Tensor) -> Tensor:
            return 0.0 * x + self.u + self.v.square()

    assert count_laws(Mixed(), one(1), symmetries=()).upper == 1
    assert count_laws(Mixed(), one(1), optimizer="weight_decay", symmetries=()).upper == 0


def _sign_rank(potentials: Potentials, theta: Tensor) -> int:
    """Rank of many sampled sign vectors: the slow reference."""
    rows = torch.cat(list(potentials.gradients(theta, 200)))
    mixtures = torch.randn(4000, rows.shape[0], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return int(torch.linalg.matrix_rank((mixtures @ rows).sign()))


@pytest.mark.parametrize(
    ("model", "width"),
    [
        (linear_network(1, 1, 1), 1),
        (linear_network(2, 2, 2), 2),
        (linear_network(1, 3, 1), 1),
        (feed_forward(2, 3, nn.ReLU()), 2),
    ],
    ids=["1-1-1", "2-2-2", "1-3-1", "relu"],
)
def test_sign_descent_against_sampled_signs(model: nn.Module, width: int) -> None:
    count = count_laws(model, one(width), optimizer="sign_descent", symmetries=(), point="model")
    potentials = Potentials(model, one(width), None, None, 0)
    assert count.phase_dimension - count.upper == _sign_rank(potentials, potentials.origin)


def test_sign_descent_keeps_a_scalar_pair() -> None:
    count = count_laws(
        linear_network(1, 1, 1), one(1), optimizer="sign_descent", symmetries=[LinearPair("0.weight", "1.weight", 1)]
    )
    assert (count.lower, count.upper) == (1, 1)


@pytest.mark.parametrize("flow", [GradientFlow(), WeightDecay(0.2), HeavyBall(0.3, 0.1), HeavyBall(three_over_t)])
def test_known_laws_are_orthogonal_to_the_fields(flow: OptimizerFlow) -> None:
    potentials = Potentials(linear_network(3, 2, 2), one(3), None, None, 0)
    theta = fresh_place(potentials)
    rows = torch.cat(list(potentials.gradients(theta, 50)))
    z = flow.point(theta, potentials.generator)
    laws, names = known_laws(flow, potentials, [LinearPair("0.weight", "1.weight", 2)], z, rows, 1e-9)
    assert laws.shape[0] == (1 if isinstance(flow, HeavyBall) else 3)
    assert len(names) == len(laws)
    fields = flow.rows(rows, z)
    assert (fields @ laws.mT).abs().max() < 1e-12 * fields.norm() * laws.norm()


def test_names() -> None:
    assert optimizer_flow("sign_descent") == SignDescent()
    assert optimizer_flow(HeavyBall(0.5)) == HeavyBall(0.5)
    with pytest.raises(ValueError, match="no optimizer 'adam' to count laws for; one of gradient_flow"):
        optimizer_flow("adam")


def test_relu_under_heavy_ball_has_none() -> None:
    count = count_laws(relu_network([1, 2, 1], bias=False), one(1), optimizer="heavy_ball", symmetries=())
    assert count.upper == 0
