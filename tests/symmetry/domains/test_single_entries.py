"""A single entry that is broadcast is the same wherever it is read: shifts behind weights that data pick."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries

from ..agreement import judge
from ..network import Network


class Experts(nn.Module):
    """Two experts whose outputs, times one weight a row, are added in places that data decide, before a norm."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        self.router = nn.Linear(3, 2)
        self.inner = nn.Parameter(torch.randn(4, 3))
        self.outer = nn.Parameter(torch.randn(4, 3))
        self.norm, self.end = nn.LayerNorm(3, elementwise_affine=False), nn.Linear(3, 2)

    def own(self, weights: Tensor, rows: Tensor, which: Tensor) -> Tensor:
        """The weight of each row at an expert."""
        return {
            "indexed": lambda: weights[rows, which, None],
            "column": lambda: weights[rows],
            "unsqueezed": lambda: weights[rows, which].unsqueeze(-1),
            "expanded": lambda: weights[rows].expand(-1, 3),
            "gathered": lambda: weights.gather(1, torch.zeros_like(weights, dtype=torch.long))[rows],
        }[self.spelling]()

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.router(x).softmax(-1).topk(1, dim=-1)
        out = torch.zeros_like(x)
        for number, (w, v) in enumerate(zip(self.inner.view(2, 2, 3), self.outer.view(2, 2, 3), strict=True)):
            rows, which = torch.where(chosen == number)
            y = torch.tanh(x[rows] @ w.T) @ v
            out = out.index_add(0, rows, y * self.own(weights, rows, which))
        return self.end(torch.tanh(self.norm(x + out)))


LATER = ("column", "unsqueezed", "expanded", "gathered")


@pytest.mark.parametrize("spelling", ["indexed", *(pytest.param(name, marks=pytest.mark.slow) for name in LATER)])
def test_shifts_of_what_experts_write_pass_one_weight_a_row(spelling: str) -> None:
    module = Experts(spelling).double()
    network = Network(spelling, module, lambda g: (torch.randn(24, 3, generator=g, dtype=torch.float64),))
    found = judge(network, find_symmetries(module, network.batch()[0]))
    assert found.sound, found
    assert found.translations == found.truth.translations - found.truth.lone, found
    assert found.translations >= 4, found
