"""Laws of one data set, given as functions of the parameters, and counts at the model's own parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics.diagnostics.counting.counting import count_laws

from .networks import linear_network, one

Params = Mapping[str, Tensor]


def _network(activation: nn.Module, inputs: int = 3, hidden: int = 2, outputs: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False), activation, nn.Linear(hidden, outputs, bias=False)
    ).double()


def _charge(antiderivative: Callable[[Tensor], Tensor]) -> Callable[[Params], Tensor]:
    """½|u_i|² - Σ_j F(V_ij), F' = σ/σ', of U σ(V X) at X = 1: one of each hidden unit."""

    def charge(params: Params) -> Tensor:
        return params["2.weight"].square().sum(0) / 2 - antiderivative(params["0.weight"]).sum(1)

    return charge


_FORMS = {
    "tanh": (nn.Tanh(), lambda v: v.sinh().square() / 2),
    "sigmoid": (nn.Sigmoid(), lambda v: v + v.exp()),
    "relu": (nn.ReLU(), lambda v: v.relu().square() / 2),
}


@pytest.mark.parametrize("name", ["tanh", pytest.param("sigmoid", marks=pytest.mark.slow)])
def test_charges_of_the_unit_batch_certify_its_count(name: str) -> None:
    """Zhao, Ganev, Walters, Yu, Dehmamy: Symmetries, flat minima, and the conserved quantities of gradient flow."""
    activation, form = _FORMS[name]
    model, unit = _network(activation), torch.eye(3)
    charge = _charge(form)
    count = count_laws(model, unit, data=[unit], charges={"half-norms": charge})
    assert (count.lower, count.upper) == (2, 2)
    assert count.certified
    assert "half-norms" in count.known
    expected = charge(dict(model.named_parameters()))
    assert torch.equal(count.charges[0].values, expected.detach())
    # of other data they are none
    other = count_laws(model, unit, data=[torch.randn(3, 3)], charges={"half-norms": charge})
    assert not other.charges[0].conserved
    assert other.lower == 0


@pytest.mark.parametrize(
    "name", ["tanh", pytest.param("sigmoid", marks=pytest.mark.slow), pytest.param("relu", marks=pytest.mark.slow)]
)
def test_a_charge_of_the_unit_batch_stands_still_in_training(name: str) -> None:
    activation, form = _FORMS[name]
    model, unit = _network(activation), torch.eye(3, dtype=torch.float64)
    charge = _charge(form)
    assert count_laws(model, unit, data=[unit], charges={"q": charge}).charges[0].conserved
    target = torch.ones(3, 2, dtype=torch.float64)

    def drift(rate: float) -> float:
        twin = _network(activation)
        before = charge(dict(twin.named_parameters())).detach()
        for _ in range(round(0.2 / rate)):
            twin.zero_grad()
            (twin(unit) - target).square().sum().backward()
            with torch.no_grad():
                for p in twin.parameters():
                    p -= rate * p.grad
        return float((charge(dict(twin.named_parameters())).detach() - before).abs().max())

    # of first order in the rate, so zero along the flow
    assert drift(1e-3) / drift(5e-4) == pytest.approx(2, rel=0.05)


def test_a_wrong_charge_gives_no_law() -> None:
    model, unit = _network(nn.Tanh()), torch.eye(3)
    count = count_laws(
        model, unit, data=[unit], symmetries=(), charges={"norm": lambda p: p["0.weight"].square().sum()}
    )
    (charge,) = count.charges
    assert (charge.conserved, count.lower, count.known) == (False, 0, ())
    assert "not conserved" in repr(charge)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "heavy_ball"}, "charges are laws of gradient flow"),
        ({"point": "symmetric"}, "charges are tried at generic places"),
    ],
)
def test_charges_are_refused_where_they_are_not_tried(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count_laws(linear_network(2, 2), one(2), charges={"q": lambda p: p["0.weight"].sum()}, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("point", ["model", "generic"])
def test_a_charge_whose_gradient_vanishes_at_the_own_parameters_is_none(point: Literal["model", "generic"]) -> None:
    """The square of the way from there stands still at first and never again."""
    model = linear_network(2, 2)
    own = model[0].weight.detach().double().clone()
    charges = {"way": lambda p: (p["0.weight"] - own).square().sum()}
    (charge,) = count_laws(model, one(2), symmetries=(), point=point, charges=charges).charges
    assert float(charge.values) == 0.0
    assert not charge.conserved


def test_a_charge_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="the charge 'q' or its gradient is not finite"):
        count_laws(linear_network(2, 2), one(2), charges={"q": lambda p: p["0.weight"].sum() / 0.0})


def test_zeros_and_ties_of_given_weights_are_told() -> None:
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Tanh(), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        model[2].weight[0, 0] = 0.0
        model[0].weight[2] = model[0].weight[1]
    count = count_laws(model, one(2), symmetries=(), point="model")
    # the row behind the zero is not seen, and of two equal units the sum alone
    assert count.fibre == 2 + 3
    assert count.remarks == (
        "the functions miss 5 more directions at the model's own parameters than at generic ones: fibre 5, not 0",
        "0.weight: slices along dimension 0 are equal: 1 = 2",
        "2.weight: 1 of 3 elements are zero",
    )
    assert count_laws(model, one(2), symmetries=()).upper == 0


def test_slices_that_are_zero_are_no_ties() -> None:
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Tanh(), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        model[0].weight[:2] = 0.0
    count = count_laws(model, one(2), symmetries=(), point="model")
    assert count.remarks[1:] == ("0.weight: 4 of 6 elements are zero",)


def test_own_parameters_that_are_generic_are_told_so() -> None:
    torch.manual_seed(0)
    count = count_laws(linear_network(2, 2, 2), one(2), symmetries=(), point="model")
    assert count.remarks == ("the model's own parameters are as good as generic ones: fibre 4 at both",)


class Residual(nn.Module):
    """c·(x + B tanh(A x)): B may move in the kernel of c, at each c another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.read = (nn.Linear(2, n, bias=False) for n in (2, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.read(x + self.second(torch.tanh(self.first(x))))


def test_kernels_of_rank_deficient_pairs_are_no_laws() -> None:
    count = count_laws(Residual(), one(2))
    assert (count.fibre, count.generators) == (2, 0)
    assert (count.lower, count.upper) == (0, 0)
    assert count.beyond.startswith("brackets leave these 2 directions, so none is a law")
    assert "no group action" in repr(count)
    assert {name for direction in count.unexplained for name in direction.parameters} == {"second.weight"}
