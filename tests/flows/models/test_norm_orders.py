"""Modified flows through every norm keep their order, by both routes and with momentum: third derivatives are right."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics.flows import ModifiedFlow, ModuleLoss, integrate, module_loss
from neuralmechanics.flows.comparison.sweep import slope
from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.integration.steppers import STEPPERS


class Attention(nn.Module):
    """Self-attention over three tokens of two numbers, by the fused kernel."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = 0.4 * x.reshape(-1, 1, 3, 2)
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).reshape(x.shape)


def _weight_norm(dim: int) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(nn.Linear(6, 6), dim=dim)


NORMS: dict[str, Callable[[], nn.Module]] = {
    "batch": lambda: nn.BatchNorm1d(6),
    "layer": lambda: nn.LayerNorm(6),
    "group": lambda: nn.GroupNorm(2, 6),
    "instance": lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, affine=True), nn.Flatten()),
    "root mean square": lambda: nn.RMSNorm(6),
    "weight, rows": lambda: _weight_norm(0),
    "weight, columns": lambda: _weight_norm(1),
    "local response": lambda: nn.Sequential(nn.Unflatten(1, (6, 1)), nn.LocalResponseNorm(3), nn.Flatten()),
    "attention": Attention,
}


def _loss(name: str) -> ModuleLoss:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), NORMS[name](), nn.Tanh(), nn.Linear(6, 3)).double()
    with torch.no_grad():  # where a norm forgets the scale, large weights make small steps
        model[0].weight.mul_(2)
    generator = torch.Generator().manual_seed(1)
    batch = torch.randn(12, 4, generator=generator, dtype=torch.float64), torch.randint(3, (12,), generator=generator)
    return module_loss(model, lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]), batch)


def _measured(loss: ModuleLoss, make: Callable[[float], ModifiedFlow], horizon: float, momentum: float = 0.0) -> float:
    """Slope of log |flow - torch's SGD| at ``horizon``.

    With momentum the optimiser starts on the slow manifold: its buffer holds the flow's own step from one step before,
    so that no initial layer, known to second order only, hides the order of the series.
    """
    layout = Layout.of(loss.theta0)
    start, errors, rates = layout.flatten(loss.theta0), [], []
    for count in (12, 18):
        rate = horizon / count
        flow = make(rate)
        leaf = start.clone().requires_grad_(True)
        optimizer = torch.optim.SGD([leaf], lr=rate, momentum=momentum)
        if momentum:
            field, before = next(flow.system(loss.theta0).pieces(0, 1)).field, start
            before = STEPPERS["dopri5-fixed"].step(field, before, -rate)
            optimizer.state[leaf]["momentum_buffer"] = (before - start) / rate
        for _ in range(count):
            optimizer.zero_grad()
            loss(layout.unflatten(leaf)).backward()
            optimizer.step()
        path = integrate(flow, loss.theta0, [0, horizon], method="dopri5-fixed", step=horizon / 8, estimate_error=False)
        errors.append(float((layout.flatten(path.require_completed().final) - leaf.detach()).norm()))
        rates.append(rate)
    return slope(torch.tensor(rates), torch.tensor(errors))


# Those that are wrong in torch are always tested; all of them reach their order.
WRONG = ("batch", "layer", "weight, rows")
NAMES = [name if name in WRONG else pytest.param(name, marks=pytest.mark.slow) for name in NORMS]
# Stiffer ones reach their slope at smaller steps.
HORIZONS = dict.fromkeys(NORMS, 0.3) | {"batch": 0.1}


@pytest.mark.parametrize("order", [pytest.param(3, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize("route", ["map", "derivatives"])
@pytest.mark.parametrize("name", NAMES)
def test_both_routes_reach_their_order(name: str, route: str, order: int) -> None:
    loss = _loss(name)
    make = partial(ModifiedFlow, loss, order=order, route=route)
    assert _measured(loss, lambda rate: make(learning_rate=rate), 1.25 * HORIZONS[name]) == pytest.approx(
        order, abs=0.15
    )


@pytest.mark.parametrize("order", [pytest.param(3, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize("name", NAMES)
def test_the_series_with_momentum_reaches_its_order(name: str, order: int) -> None:
    loss, beta = _loss(name), 0.3

    def make(rate: float) -> ModifiedFlow:
        return ModifiedFlow(loss, learning_rate=rate, order=order, momentum=beta, shift_start=False)

    assert _measured(loss, make, HORIZONS[name], beta) == pytest.approx(order, abs=0.15)
