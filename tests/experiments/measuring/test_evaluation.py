"""Evaluation is a measurement: the same number twice, nothing moved, and what the definition says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics.experiments.losses import mean_squared_error
from neuralmechanics.experiments.measuring.evaluation import evaluate


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 7))


def batches() -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(50, 5, generator=draw), torch.randint(7, (50,), generator=draw)
    return list(zip(x.split(16), y.split(16), strict=True))


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_and_dropout_are_measured_as_they_are_used(training: bool) -> None:
    model = network().train(training)
    model[1].running_mean.normal_()
    model[3].train(not training)  # one layer in another mode than the rest
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    first, second = evaluate(model, batches()), evaluate(model, batches())
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    x, y = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    with torch.no_grad():
        logits = network().eval()
        logits.load_state_dict(before)
        out = logits(x).double()
    assert first.loss == pytest.approx(float(functional.cross_entropy(out, y)), rel=1e-6)
    assert first.top1 == pytest.approx(float((out.argmax(1) == y).double().mean()))
    ranks = (out > out.gather(1, y[:, None])).sum(1)
    assert first.top5 == pytest.approx(float((ranks < 5).double().mean()))


def test_targets_are_measured_with_their_loss() -> None:
    model = nn.Linear(5, 2)
    x, y = torch.randn(9, 5), torch.randn(9, 2)
    halves = [(x[:6], y[:6]), (x[6:], y[6:])]
    found = evaluate(model, halves, lambda m, b: (m(b[0]) - b[1]).square().mean())
    assert found.loss == pytest.approx(float((model(x) - y).square().mean().detach()), rel=1e-6)
    assert math.isnan(found.top1)
    with pytest.raises(ValueError, match="need the loss that they are trained with"):
        evaluate(model, halves)


def test_squared_error_is_against_all_classes() -> None:
    """Also those of which the batch holds none."""
    model = nn.Linear(5, 7)
    x, y = torch.randn(4, 5), torch.tensor([0, 1, 1, 2])
    expected = (model(x) - torch.eye(7)[y]).square().mean()
    found = mean_squared_error(model, (x, y)).detach()
    assert float(found) == pytest.approx(float(expected.detach()), rel=1e-6)
