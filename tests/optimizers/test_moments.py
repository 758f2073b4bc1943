"""What decoupled decay does to parameters in a step, and where there is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.optim import SGD, Adam, AdamW, Optimizer

from neuralmechanics.optimizers import first_moment, moment_setting

Muon = getattr(torch.optim, "Muon", None)
Make = Callable[[list[torch.Tensor]], Optimizer]
DECOUPLED: dict[str, Make] = {
    "AdamW": lambda p: AdamW(p, lr=0.2, betas=(0.8, 0.99), weight_decay=0.5),
    "Adam, decoupled": lambda p: Adam(p, lr=0.2, betas=(0.8, 0.99), weight_decay=0.5, decoupled_weight_decay=True),
}
if Muon is not None:
    DECOUPLED["Muon"] = lambda p: Muon(p, lr=0.2, momentum=0.8, weight_decay=0.5)
COUPLED: dict[str, Make] = {
    "SGD": lambda p: SGD(p, lr=0.2, momentum=0.8, weight_decay=0.5),
    "Adam": lambda p: Adam(p, lr=0.2, betas=(0.8, 0.99), weight_decay=0.5),
}


def step(make: Make) -> tuple[Optimizer, torch.Tensor, torch.Tensor]:
    """One step without a slope: the optimiser, the parameter before and after it."""
    weight = torch.arange(1.0, 7.0, dtype=torch.float64).reshape(2, 3).requires_grad_()
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    optimizer = make([weight])
    optimizer.step()
    return optimizer, before, weight


@pytest.mark.parametrize("name", DECOUPLED)
def test_decoupled_decay_shrinks_the_parameter_and_leaves_the_moment(name: str) -> None:
    optimizer, before, after = step(DECOUPLED[name])
    setting = moment_setting(optimizer, optimizer.param_groups[0])
    assert setting is not None
    assert (setting.momentum, setting.shrink) == (0.8, pytest.approx(0.9, rel=1e-15))
    assert torch.allclose(after.detach(), setting.shrink * before, rtol=1e-14, atol=0)
    moment = first_moment(optimizer, after)
    assert moment is not None
    assert not moment.any()


@pytest.mark.parametrize("name", COUPLED)
def test_coupled_decay_goes_through_the_moment(name: str) -> None:
    optimizer, before, after = step(COUPLED[name])
    setting = moment_setting(optimizer, optimizer.param_groups[0])
    assert setting is not None
    assert (setting.momentum, setting.shrink) == (0.8, 1.0)
    moment = first_moment(optimizer, after)
    assert moment is not None
    assert torch.allclose(moment / moment[0, 0], before / before[0, 0], rtol=1e-14, atol=0)


def test_without_momentum_there_is_no_moment() -> None:
    optimizer, _, after = step(lambda p: SGD(p, lr=0.2, weight_decay=0.5))
    assert moment_setting(optimizer, optimizer.param_groups[0]) is None
    assert first_moment(optimizer, after) is None
