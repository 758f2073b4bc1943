"""Losses from modules: float64, buffers untouched, tied weights, attention's second derivatives, randomness refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from neuralmechanics.flows import GradientFlow, ModifiedFlow, ModifiedLoss, descend, integrate, module_loss, velocity


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.mixing = nn.Linear(4, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.mixing(self.norm(x)).chunk(3, dim=-1)
        return functional.scaled_dot_product_attention(query, key, value)


def _square(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return model(batch).square().mean()


@pytest.mark.parametrize("model", [_Attention(), nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh())])
def test_second_derivatives_equal_finite_differences(model: nn.Module) -> None:
    torch.manual_seed(0)
    batch = torch.randn(2, 5, 4) if isinstance(model, _Attention) else torch.randn(6, 4)
    loss = module_loss(model, _square, batch)
    step = 1e-5
    rate = 0.1
    bent = velocity(ModifiedLoss(loss, learning_rate=rate), loss.theta0)
    plain = velocity(ModifiedLoss(loss, learning_rate=1e-300), loss.theta0)
    ahead = velocity(ModifiedLoss(loss, learning_rate=1e-300), {n: p + step * plain[n] for n, p in loss.theta0.items()})
    behind = velocity(
        ModifiedLoss(loss, learning_rate=1e-300), {n: p - step * plain[n] for n, p in loss.theta0.items()}
    )
    for name in loss.theta0:
        bend = -rate / 2 * (ahead[name] - behind[name]) / (2 * step)
        assert torch.allclose(bent[name] - plain[name], bend, atol=1e-8)


def test_the_model_and_its_buffers_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss = module_loss(model, _square, torch.randn(6, 4))
    first = float(loss(loss.theta0))
    velocity(ModifiedFlow(loss, learning_rate=0.1, order=3, route="derivatives"), loss.theta0)
    assert float(loss(loss.theta0)) == first
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.dtype == before[name].dtype
    assert all(value.dtype == torch.float64 for value in loss.theta0.values())


def test_tied_parameters_are_one() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3, bias=False))
    model[2].weight = model[0].weight
    loss = module_loss(model, _square, torch.randn(4, 3))
    assert list(loss.theta0) == ["0.weight"]
    bumped = {"0.weight": loss.theta0["0.weight"] * 2}
    expected = (torch.tanh(loss._batch @ bumped["0.weight"].T) @ bumped["0.weight"].T).square().mean()
    assert float(loss(bumped)) == pytest.approx(float(expected), rel=1e-14)


def test_what_is_not_a_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="is random"):
        module_loss(nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5)), _square, torch.randn(6, 4))
    with pytest.raises(TypeError, match=r"loss_fn returned \(6, 3\)"):
        module_loss(nn.Linear(4, 3), lambda model, batch: model(batch), torch.randn(6, 4))
    with pytest.raises(ValueError, match="no parameter with requires_grad"):
        module_loss(nn.Linear(4, 3).requires_grad_(False), _square, torch.randn(6, 4))


@pytest.mark.parametrize("left", ["0.weight", "2.bias"])
def test_a_part_of_the_parameters_is_refused(left: str) -> None:
    """The others would stay where they are, and nobody would know."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    loss = module_loss(model, lambda m, x: m(x).square().mean(), torch.randn(5, 3))
    part = {name: value for name, value in loss.theta0.items() if name != left}
    with pytest.raises(ValueError, match=f"the parameters lack '{left}', which would stay as it is"):
        loss(part)
    with pytest.raises(ValueError, match=f"the parameters lack '{left}'"):
        integrate(GradientFlow(loss), part, [0.0, 0.1])
    with pytest.raises(ValueError, match=f"the parameters lack '{left}'"):
        descend(loss, part, lambda params: torch.optim.SGD(params, lr=0.1), 2)
    model.get_parameter(left).requires_grad_(False)
    frozen = module_loss(model, lambda m, x: m(x).square().mean(), torch.randn(5, 3))
    assert set(integrate(GradientFlow(frozen), frozen.theta0, [0.0, 0.1]).final) == set(part)


def test_a_tied_parameter_is_given_under_any_of_its_names() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3, bias=False))
    model[2].weight = model[0].weight
    loss = module_loss(model, lambda m, x: m(x).square().mean(), torch.randn(5, 3))
    assert float(loss({"2.weight": loss.theta0["0.weight"]})) == float(loss(loss.theta0))
