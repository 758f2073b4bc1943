"""Flows that need second and higher derivatives get right ones, or say why there are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from neuralmechanics.flows import (
    AdamFlow,
    GradientFlow,
    ModifiedFieldFlow,
    ModifiedFlow,
    ModifiedLoss,
    ModuleLoss,
    PrincipalFlow,
    StochasticFlow,
    integrate,
    module_loss,
    module_losses,
    velocity,
)
from neuralmechanics.flows.equation.system import Flow
from neuralmechanics.functional.derivatives.higher_derivatives import NoDerivativeError

from ..problems import data


class Call(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[..., Tensor], *inner: nn.Module) -> None:
        super().__init__()
        self.function, self.inner = function, nn.ModuleList(inner)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.inner)


class Once(torch.autograd.Function):
    """tanh, marked once differentiable."""

    @staticmethod
    def forward(ctx, x):
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return grad * (1 - ctx.saved_tensors[0] ** 2)


class Saved(torch.autograd.Function):
    """tanh, its slope saved in the forward pass: the second derivative misses a term."""

    @staticmethod
    def forward(ctx, x):
        y = x.tanh()
        ctx.save_for_backward(1 - y**2)
        return y

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0]


def loss_of(*middle: nn.Module, loss_fn: Callable[[nn.Module, Any], Tensor] | None = None) -> ModuleLoss:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), *middle, nn.Linear(4, 3)).double()
    return module_loss(model, loss_fn or (lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1])), data())


NEED_TWO: dict[str, Callable[[ModuleLoss], Flow]] = {
    "modified loss": lambda loss: ModifiedLoss(loss, learning_rate=0.1),
    "principal flow": lambda loss: PrincipalFlow(loss, learning_rate=0.1),
    "nesterov": lambda loss: ModifiedFlow(loss, learning_rate=0.1, momentum=0.3, nesterov=True),
    "series": lambda loss: ModifiedFlow(loss, learning_rate=0.1, order=2, route="derivatives"),
    "momentum": lambda loss: ModifiedFlow(loss, learning_rate=0.1, order=3, momentum=0.3),
    "adam": lambda loss: AdamFlow(loss, learning_rate=0.01),
}
NEED_ONE: dict[str, Callable[[ModuleLoss], Flow]] = {
    "gradient flow": GradientFlow,
    "map": lambda loss: ModifiedFlow(loss, learning_rate=0.1, order=4),
    "second order": lambda loss: ModifiedFlow(loss, learning_rate=0.1, momentum=0.3),
    "adam, leading order": lambda loss: AdamFlow(loss, learning_rate=0.01, correction=False),
}
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "once differentiable": (lambda: Call(Once.apply), "Once is marked once differentiable"),
    "saved slope": (lambda: Call(Saved.apply), "order 2 is off by .* with Saved on the way"),
    "stop-gradient": (lambda: Call(lambda x: x / x.detach().norm(dim=1, keepdim=True)), "autograd does not see"),
    "power iteration": (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), "autograd does not see"),
    "rounding": (lambda: Call(lambda x: x + ((8 * x).round() / 8 - x).detach()), "autograd does not see"),
    "no second backward": (
        lambda: Call(lambda x: torch.cdist(x, x[:4])[:, :4]), "no derivative of that order here: .*_cdist_backward"
    ),
}  # fmt: skip


@pytest.mark.parametrize("flow", NEED_TWO)
@pytest.mark.parametrize("name", REFUSED)
def test_second_derivatives_that_are_not_there_or_not_right_are_refused(name: str, flow: str) -> None:
    build, message = REFUSED[name]
    loss = loss_of(build())
    with pytest.raises(NoDerivativeError, match=message):
        velocity(NEED_TWO[flow](loss), loss.theta0)


@pytest.mark.parametrize("flow", NEED_ONE)
@pytest.mark.parametrize("name", REFUSED)
def test_flows_of_first_derivatives_take_them(name: str, flow: str) -> None:
    loss = loss_of(REFUSED[name][0]())
    assert all(bool(torch.isfinite(v).all()) for v in velocity(NEED_ONE[flow](loss), loss.theta0).values())


def test_the_modified_noise_and_general_fields_are_refused_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), Call(Saved.apply), nn.Linear(4, 3)).double()
    batches = [data(seed=seed) for seed in (1, 2)]
    losses = module_losses(model, lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]), batches)
    theta = {name: p.detach() for name, p in model.named_parameters()}
    with pytest.raises(NoDerivativeError, match="Saved"):
        StochasticFlow(losses, learning_rate=0.1, modified=True).noise(theta)
    StochasticFlow(losses, learning_rate=0.1).noise(theta)
    field = ModifiedFieldFlow(lambda p: {"x": Saved.apply(p["x"])}, time_step=0.1, order=2, loss=lambda p: p["x"].sum())
    with pytest.raises(NoDerivativeError, match="Saved"):
        field.system({"x": torch.linspace(0.1, 1, 4).double()})


def plain_weight_norm(x: Tensor, layer: nn.Module) -> Tensor:
    """The weight-normalised layer, written out."""
    g, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    return x @ (v * g / v.norm(dim=1, keepdim=True)).T + layer.bias


def hand_layer_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    return (centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()).tanh()


@pytest.mark.parametrize("flow", NEED_TWO)
def test_fused_weight_norm_flows_like_the_one_written_out(flow: str) -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    fused, plain = loss_of(Call(lambda x, layer: layer(x), layer)), loss_of(Call(plain_weight_norm, layer))
    ours, right = (velocity(NEED_TWO[flow](loss), loss.theta0) for loss in (fused, plain))
    for name, value in right.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-9, atol=1e-12)


def force_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Squared forces -∇_x E, the energy E a sum of outputs."""
    x = batch[0].clone().requires_grad_()
    (force,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    return force.square().mean()


def test_a_loss_that_differentiates_inside_flows_like_the_one_written_out() -> None:
    """Order 3 of the series takes a fourth derivative through layer norm here; values and patterns take one as well."""
    fused = loss_of(nn.LayerNorm(4, elementwise_affine=False), nn.Tanh(), loss_fn=force_loss)
    plain = loss_of(Call(hand_layer_norm), loss_fn=force_loss)
    paths = []
    for loss in (fused, plain):
        flow = ModifiedFlow(loss, learning_rate=0.01, order=3, route="derivatives")
        paths.append(integrate(flow, loss.theta0, [0, 0.02], step=0.01, estimate_error=False).require_completed())
    for before, after in zip(fused.theta0, plain.theta0, strict=True):
        torch.testing.assert_close(paths[0].final[before], paths[1].final[after], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(paths[0].losses, paths[1].losses, rtol=1e-10, atol=0)


@pytest.mark.parametrize("kinks", ["ignore", "locate"])
def test_kinked_losses_that_differentiate_inside_are_integrated(kinks: str) -> None:
    loss = loss_of(nn.LeakyReLU(0.2), loss_fn=force_loss)
    path = integrate(GradientFlow(loss), loss.theta0, [0, 0.01], method="dopri5", kinks=kinks).require_completed()
    assert float(path.losses[1]) < float(path.losses[0])


@pytest.mark.parametrize("flow", [*NEED_TWO, "gradient flow"])
def test_checkpoints_change_no_number(flow: str) -> None:
    """Away from the parameters that the loss came with, too: what is computed again is computed at θ."""
    inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    make = {**NEED_TWO, **NEED_ONE}[flow]
    speeds = []
    for layer in (inner, Call(lambda x, part: checkpoint(part, x, use_reentrant=False), inner)):
        torch.manual_seed(0)
        loss = loss_of(layer)
        theta = {name: value + 0.3 for name, value in loss.theta0.items()}
        speeds.append(list(velocity(make(loss), theta).values()))
    for right, ours in zip(*speeds, strict=True):
        torch.testing.assert_close(ours, right, rtol=1e-12, atol=1e-14)


def test_a_checkpointed_norm_is_refused_where_it_would_be_wrong() -> None:
    loss = loss_of(Call(lambda x, part: checkpoint(part, x, use_reentrant=False), nn.LayerNorm(4)), nn.Tanh())
    with pytest.raises(NoDerivativeError, match="turn checkpointing off"):
        velocity(ModifiedFlow(loss, learning_rate=0.1, order=3, route="derivatives"), loss.theta0)
