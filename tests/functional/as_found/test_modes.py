"""Each batch norm counts in the mode that it runs in, and stays in it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neuralmechanics as nm
from neuralmechanics import experiments


def two_norms(first: bool, second: bool) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)
    ).double()
    layers[1].train(first)
    layers[4].train(second)
    return layers


class Written(nn.Module):
    """The same layer by layer, with a write into part of a tensor: its graph is rewritten without mutation."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        held = torch.zeros_like(x)
        held[:, :] = x
        out: Tensor = self.layers(held)
        return out


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def test_a_frozen_batch_norm_leaves_no_scale_and_stays_frozen() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 4)
    ).double()
    model[1].eval()
    batch = torch.randn(8, 3, 8, 8).double(), torch.randint(4, (8,))
    found = nm.find_symmetries(model, batch, cross_entropy)
    nm.lint(model, batch, cross_entropy)
    assert (model.training, model[1].training) == (True, False)
    # Six channels between the norm's gain and the last layer; a common shift of the logits for each of their inputs.
    assert found.count() == {"translation": 217, "scale": 0, "rescale": 6, "linear": 0}
    assert nm.check_symmetries(found, model, cross_entropy, [batch]).ok
    cross_entropy(model, batch).backward()  # type: ignore[no-untyped-call]
    weight = model[0].weight
    pull = weight.grad * weight.detach()
    assert abs(float(pull.sum())) > 1e-3 * float(pull.abs().sum())  # so no scale of the first weight is true


@pytest.mark.parametrize("form", [lambda layers: layers, Written], ids=["export", "functional"])
@pytest.mark.parametrize("second", [True, False])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("root", [True, False])
def test_every_mixture_of_modes(form: Any, first: bool, second: bool, root: bool) -> None:
    layers = two_norms(first, second)
    model = form(layers)
    model.training = root
    batch = torch.randn(9, 3).double(), torch.randint(2, (9,))
    found = nm.find_symmetries(model, batch, cross_entropy)
    assert (model.training, layers[1].training, layers[4].training) == (root, first, second)
    biases, scales = 5 * first + 4 * second, 5 * first + 4 * second
    assert found.count() == {"translation": biases + 5, "scale": scales, "rescale": 9, "linear": 0}
    assert not found.unknown
    report = nm.check_symmetries(found, model, cross_entropy, [batch])
    assert all(check.verdict != "broken" for check in report.families)
    said = {text for family in found for text in family.requires}
    where = {(True, False): " of 1", (False, True): " of 4", (True, True): ""}.get((first, second))
    place = "" if form is not Written or not where else where.replace(" of ", " of layers.")
    expected = set() if where is None else {f"training mode (batch statistics){place or where}"}
    assert said == expected


def test_evaluation_puts_mixed_modes_back() -> None:
    model = two_norms(True, False)
    experiments.evaluate(model, [(torch.randn(4, 3).double(), torch.zeros(4, dtype=torch.long))])
    assert [layer.training for layer in model] == [True, True, True, True, False, True, True]
