"""What is named as the cause when a symmetry does not hold: a clamp only where a clamp was seen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from neuralmechanics.monitor.following.watching.reasons import Reason, why_broken
from neuralmechanics.symmetry import Family

BOUND = 1e-3


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))


def scale(model: nn.Sequential) -> Family:
    found = find_symmetries(model, torch.randn(8, 4, generator=torch.Generator().manual_seed(1)))
    return next(f for f in found.charged if f.parameters == ("0.weight",) or f.broken_by)


def gradients(model: nn.Sequential) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {name: torch.randn(p.shape, generator=generator) for name, p in model.named_parameters()}


def cause(model: nn.Sequential, found: dict[str, Tensor]) -> Reason:
    return why_broken(model, found, scale(model))


def test_a_clamp_is_one_bound_in_several_gradients(model: nn.Sequential) -> None:
    found = {name: g.clamp(-BOUND, BOUND) for name, g in gradients(model).items()}
    told = "the gradient of '0.weight' is clipped by value, or signs alone are kept of gradients"
    assert cause(model, found) == Reason("clipping", told)
    found["0.weight"][0, 0] = BOUND / 2
    assert cause(model, found) == Reason("clipping", "the gradient of '0.weight' is clipped by value")


def test_signs_with_a_size_for_each_tensor(model: nn.Sequential) -> None:
    found = {name: g.sign() * g.abs().mean() for name, g in gradients(model).items()}
    assert cause(model, found).kind == "signs"
    found["3.bias"] = gradients(model)["3.bias"]
    assert cause(model, found).kind != "signs"


def test_of_one_gradient_alone_ties_are_enough(model: nn.Sequential) -> None:
    found = {"0.weight": gradients(model)["0.weight"].clamp(-BOUND, BOUND)}
    assert cause(model, found).kind == "clipping"


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "3.bias"])
def test_ties_of_one_gradient_among_many_are_no_clamp(model: nn.Sequential, name: str) -> None:
    """Classes of equal count give a bias behind a constant softmax elements of one size."""
    found = gradients(model)
    found[name] = torch.full_like(found[name], 0.25)
    assert cause(model, found).kind == "constant"


def test_ties_of_two_gradients_at_two_sizes_are_no_clamp(model: nn.Sequential) -> None:
    found = gradients(model)
    found["0.weight"] = torch.full_like(found["0.weight"], 0.25)
    found["3.bias"] = torch.full_like(found["3.bias"], 0.125)
    assert cause(model, found).kind == "constant"


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_no_numbers_are_no_clamp(model: nn.Sequential, bad: float) -> None:
    assert cause(model, {n: torch.full_like(g, bad) for n, g in gradients(model).items()}).kind == "constant"
