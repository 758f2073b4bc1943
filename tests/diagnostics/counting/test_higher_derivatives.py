"""Brackets are derivatives of gradients, or the count is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import count_laws
from neuralmechanics.functional.derivatives.higher_derivatives import NoDerivativeError


class PlainWeightNorm(nn.Module):
    """x (g v/|v|)ᵀ + b, written out."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.Linear(3, 3)
        self.g, self.v, self.b = nn.Parameter(torch.ones(3, 1)), layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.g * self.v / self.v.norm(dim=1, keepdim=True)).T + self.b


class Detached(nn.Module):
    """x/|x| with the norm held fixed."""

    def forward(self, x: Tensor) -> Tensor:
        return x / x.detach().norm(dim=1, keepdim=True)


@pytest.mark.parametrize("optimizer", ["gradient_flow", "weight_decay"])
def test_weight_norm_has_one_law_a_row_and_no_more(optimizer: str) -> None:
    """Scales of v; the fused norm's wrong second derivative would break brackets that vanish."""
    counts = []
    for first in (nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), PlainWeightNorm()):
        torch.manual_seed(0)
        model = nn.Sequential(first, nn.Tanh(), nn.Linear(3, 2))
        count = count_laws(model, torch.zeros(4, 3), optimizer=optimizer, symmetries=())
        counts.append((count.upper, count.fibre))
    assert counts[0] == counts[1]
    assert counts[0][1] == 3
    if optimizer == "gradient_flow":
        assert counts[0][0] == 3


def test_a_detached_part_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Detached(), nn.Linear(3, 2))
    with pytest.raises(
        NoDerivativeError, match="the loss moves with the parameters in a way that autograd does not see"
    ):
        count_laws(model, torch.zeros(4, 3), symmetries=())
