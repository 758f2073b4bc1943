"""Tensors without elements: layers of no units, prompts of no tokens. They have no charge and stop nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import Monitor, count_laws, find_symmetries


class Prompted(nn.Module):
    """A perceptron of which the rows of data come behind some of its own."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.prompt = nn.Parameter(torch.randn(rows, 3))
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.first(torch.cat([self.prompt, x])).relu())
        return out


class Beside(nn.Module):
    """A linear map beside a branch of some units."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.whole = nn.Linear(3, 2)
        self.units, self.back = nn.Parameter(torch.randn(units, 3)), nn.Parameter(torch.randn(2, units))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.whole(x) + (x @ self.units.T).relu() @ self.back.T
        return out


@pytest.mark.parametrize("rows", [0, 2])
def test_a_prompt_of_no_tokens_has_no_charge(rows: int) -> None:
    symmetries = find_symmetries(Prompted(rows), torch.randn(5, 3))
    assert symmetries.count() == {"translation": 0, "scale": 0, "rescale": 4, "linear": 0}
    status = {c.parameter: c.status for c in symmetries.coverage}
    assert status["prompt"] == ("free" if rows else "unused")


@pytest.mark.parametrize("units", [0, 3])
def test_a_branch_of_no_units_is_searched_as_one_of_some(units: int) -> None:
    symmetries = find_symmetries(Beside(units), torch.randn(5, 3))
    assert symmetries.charges == units
    assert symmetries.charge(dict(Beside(units).named_parameters())).shape == (units,)


def test_laws_of_a_prompt_of_no_tokens_are_counted_and_followed() -> None:
    torch.manual_seed(0)
    model, x = Prompted(0), torch.randn(9, 3)
    assert count_laws(model, x, lambda m, b: m(b).square().mean()).lower >= 4
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, find_symmetries(model, x), every=1, strict=True) as monitor:
        for _ in range(2):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    assert [finding.text for finding in monitor.findings() if "gradient" in finding.text] == []
