"""Rows that data send to experts: one rescaling a unit of each expert where one list decides, and only there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries

EXPERTS, WIDTH, HIDDEN = 3, 2, 4

Chosen = Callable[[Tensor], Tensor]


class Experts(nn.Module):
    """Two maps a row, a rectifier between them: the first by a list of experts, the second by what is made of it."""

    def __init__(self, second: Chosen, bias: Chosen | None) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(EXPERTS, HIDDEN, WIDTH).double())
        self.down = nn.Parameter(torch.randn(EXPERTS, WIDTH, HIDDEN).double())
        self.bias = nn.Parameter(torch.randn(EXPERTS, HIDDEN).double())
        self.second, self.third = second, bias

    def forward(self, x: Tensor) -> Tensor:
        listed = (x > 0).sum(1)
        hidden = torch.bmm(self.up[listed], x[:, :, None])
        if self.third is not None:
            hidden = hidden + self.bias[self.third(listed)][:, :, None]
        return torch.bmm(self.down[self.second(listed)], hidden.relu())


@pytest.mark.parametrize(
    ("second", "units"),
    [
        (lambda listed: listed, EXPERTS * HIDDEN),
        (lambda listed: listed.to(torch.int32), EXPERTS * HIDDEN),
        (lambda listed: listed.reshape(-1, 1).flatten(), EXPERTS * HIDDEN),
        (lambda listed: listed.clamp(max=1), HIDDEN),
        (lambda listed: listed // 2, HIDDEN),
        (lambda listed: listed.flip(0), HIDDEN),
        (lambda listed: listed.sort()[0], HIDDEN),
        (lambda listed: listed.bool().long(), HIDDEN),
    ],
    ids=["itself", "whole numbers", "reshaped", "clamped", "halved", "reversed", "sorted", "as truth values"],
)
@pytest.mark.parametrize("with_bias", [False, True])
def test_units_of_each_expert_are_rescaled_by_themselves_where_one_list_decides(
    second: Chosen, units: int, with_bias: bool
) -> None:
    """Another list sends the rows of one expert to any: then its units can only be rescaled with those of all."""
    module = Experts(second, (lambda listed: listed) if with_bias else None)
    found = find_symmetries(module, torch.randn(7, WIDTH).double())
    assert not found.unknown
    assert found.count()["rescale"] == units


@pytest.mark.parametrize(
    ("bias", "units"), [(lambda listed: listed, EXPERTS * HIDDEN), (lambda x: x.clamp(max=1), HIDDEN)]
)
def test_a_bias_by_another_list_ties_the_experts(bias: Chosen, units: int) -> None:
    found = find_symmetries(Experts(lambda listed: listed, bias), torch.randn(7, WIDTH).double())
    assert found.count()["rescale"] == units
