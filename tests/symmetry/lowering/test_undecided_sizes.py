"""Sums over as many entries as the data decide: how many these are is no number that a law may hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from neuralmechanics import find_symmetries

from ..agreement import one_by_one

SUMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda h, mask: h[:, mask].sum(1),
    "einsum": lambda h, mask: torch.einsum("bc->b", h[:, mask]),
    "product with ones": lambda h, mask: h[:, mask] @ torch.ones_like(h[0, mask]),
    "sum of a reshape": lambda h, mask: torch.stack([h[:, mask], 2 * h[:, mask]], 2).flatten(1).sum(1),
    "sum of the selected": lambda h, mask: torch.masked_select(h, mask.expand_as(h)).sum(0, keepdim=True),
    "bags": lambda h, mask: h.index_select(1, mask.nonzero()[:, 0]).sum(-1),
}
MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "of the data": lambda x: x[0].repeat(2)[:4] > 0,
    "of the code": lambda x: torch.arange(4) < 2,
}


class Picked(nn.Module):
    """tanh(Σ of some channels + c)."""

    def __init__(self, total: Any, mask: Any) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(3, 4), nn.Parameter(torch.zeros(1))
        self.total, self.mask = total, mask

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.total(self.a(x), self.mask(x)) + self.c)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("total", SUMS)
def test_no_law_counts_what_the_data_count(total: str, mask: str) -> None:
    """Shifts of all biases are answered by one of c as often as the sum has channels: nobody knows how many it has."""
    model = Picked(SUMS[total], MASKS[mask]).double()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    params = dict(model.named_parameters())
    for family in find_symmetries(model, x):
        for step in one_by_one(family, params):
            moved = {
                n: s.view_as(params[n])
                for n, s in zip(params, step.split([p.numel() for p in params.values()]), strict=True)
            }
            _, change = jvp(lambda p: functional_call(model, p, (x,)), (params,), (moved,))
            assert change.abs().max() < 1e-12


def test_a_mean_over_what_the_data_pick_is_followed() -> None:
    model = Picked(lambda h, mask: h[:, mask].mean(1), MASKS["of the data"])
    (family,) = find_symmetries(model, torch.randn(5, 3, generator=torch.Generator().manual_seed(1)))
    step = family.generator(dict(model.named_parameters()))
    assert torch.allclose(step["a.bias"] / step["a.bias"][0], torch.ones(4))
    assert torch.allclose(step["a.bias"][:1], -step["c"])
