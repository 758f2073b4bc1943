"""Weights divided by their sum add up to one: what is the same for all that they average stays as it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import find_symmetries

from ..agreement import judge
from ..network import Network, prepared

Read = Callable[[Tensor, Tensor], Tensor]
READS: dict[str, tuple[Read, bool]] = {  # of weights and values; whether a bias behind takes back what values gain
    "divided": (lambda w, v: (w / w.sum(-1, keepdim=True)) @ v, True),
    "unsqueezed": (lambda w, v: (w / w.sum(-1)[..., None]) @ v, True),
    "power": (lambda w, v: torch.einsum("bqk,bkd->bqd", w * w.sum(2).unsqueeze(-1).pow(-1), v), True),
    "expanded": (lambda w, v: (w / w.sum(-1, keepdim=True).expand_as(w)) @ v, True),
    "squares": (lambda w, v: (w**2 / (w**2).sum(-1, keepdim=True)) @ v, True),
    "of the transpose": (lambda w, v: (w / w.sum(1, keepdim=True)).mT @ v, True),
    "over the other dimension": (lambda w, v: (w / w.sum(1, keepdim=True)) @ v, False),
    "of another row": (lambda w, v: (w / w.sum(-1)[:, None, :]) @ v, False),
    "by the square": (lambda w, v: (w / w.sum(-1, keepdim=True) ** 2) @ v, False),
    "by a greater sum": (lambda w, v: (w / (1 + w.sum(-1, keepdim=True))) @ v, False),
}
SLOW = {"power", "squares", "of the transpose", "by a greater sum"}


class _Averaged(nn.Module):
    def __init__(self, read: Read) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(3, 3) for _ in range(3))
        self.o, self.read = nn.Linear(3, 2), read

    def forward(self, x: Tensor) -> Tensor:
        queries, keys = functional.elu(self.q(x)) + 1, functional.elu(self.k(x)) + 1
        return torch.tanh(self.o(self.read(queries @ keys.mT, self.v(x))))


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in READS])
def test_values_shift_where_weights_are_shares(name: str) -> None:
    torch.manual_seed(0)
    read, answered = READS[name]

    def inputs(g: torch.Generator) -> tuple[Tensor]:
        return (torch.randn(6, 4, 3, generator=g, dtype=torch.float64),)

    network = Network("", prepared(_Averaged(read)), inputs)
    found = find_symmetries(network.module, network.batch())
    shifted = [f.size for f in found if f.kind == "affine" and "v.bias" in f.parameters]
    assert shifted == ([3] if answered else [])
    verdict = judge(network, found)
    assert verdict.sound, verdict
    assert verdict.equal, verdict
    if answered:
        assert verdict.complete, verdict
