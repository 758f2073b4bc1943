"""Biases added behind the other branches of a sum: what a map without one makes of a constant is taken back there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries

from ..agreement import amounts, change, judge
from ..network import Network, prepared

Sum = Callable[[Tensor, Tensor, Tensor], Tensor]
SUMS: dict[str, tuple[Sum, bool]] = {  # of attention, the other branch and the stream; whether its bias takes back all
    "attention first": (lambda a, m, h: a + m + h, True),
    "stream first": (lambda a, m, h: h + a + m, True),
    "branches first": (lambda a, m, h: h + (m + a), True),
    "stream within": (lambda a, m, h: (h + m) + a, True),
    "stacked": (lambda a, m, h: torch.stack([a, m, h]).sum(0), True),
    "stacked twice": (lambda a, m, h: torch.stack([torch.stack([m, h], -1).sum(-1), a]).mean(0), True),
    "half of all": (lambda a, m, h: 0.5 * (a + m) + h, True),
    "from the stream": (lambda a, m, h: h - (a + m), True),
    "read twice": (lambda a, m, h: a + m + h + torch.tanh(m), False),
    "branch in a product": (lambda a, m, h: a + h + m * h, False),
    "squashed branch": (lambda a, m, h: a + h + torch.tanh(m), False),
}


class _Parallel(nn.Module):
    """Attention without biases beside a branch with one, read by the same norm."""

    def __init__(self, total: Sum) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(4)
        self.q, self.k, self.v = (nn.Linear(4, 3, bias=False) for _ in range(3))
        self.o = nn.Linear(3, 4, bias=False)
        self.fc, self.out = nn.Linear(4, 5), nn.Linear(5, 4)
        self.last, self.head = nn.LayerNorm(4), nn.Linear(4, 3)
        self.total = total

    def forward(self, h: Tensor) -> Tensor:
        n = self.ln(h)
        a = self.o(torch.softmax(self.q(n) @ self.k(n).mT, dim=-1) @ self.v(n))
        out: Tensor = self.head(self.last(self.total(a, self.out(torch.tanh(self.fc(n))), h)))
        return out


def _network(total: Sum) -> Network:
    torch.manual_seed(0)
    return Network("", prepared(_Parallel(total)), lambda g: (torch.randn(3, 5, 4, generator=g, dtype=torch.float64),))


@pytest.mark.parametrize("name", SUMS)
def test_values_may_shift_where_a_bias_beside_them_takes_it_back(name: str) -> None:
    total, answered = SUMS[name]
    network = _network(total)
    found = find_symmetries(network.module, network.batch())
    moved = [f for f in found if f.kind == "affine" and any(p.startswith("v.") for p in f.parameters)]
    size = sum(f.size for f in moved)
    generator = torch.Generator().manual_seed(1)
    batch = network.batch(1)
    for family in moved:
        amount = amounts(family, generator, 0.3)
        assert change(network.module, lambda: network.observed(batch), family, amount) < 1e-10
    verdict = judge(network, found)
    assert verdict.sound, verdict
    assert verdict.equal, verdict
    if answered:
        assert size == 3, moved
        assert verdict.complete, verdict
