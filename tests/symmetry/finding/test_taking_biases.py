"""Biases that take back what a norm's bias adds to a sum: only those of sums that nothing else reads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries

from ..agreement import judge
from ..network import Network, prepared


class _Beside(nn.Module):
    """A norm read without biases, beside an inner sum that holds one."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.bias = how, nn.Parameter(torch.zeros(4))
        self.write, self.inner, self.last = (nn.Linear(n, m, bias=False) for n, m in ((3, 4), (3, 4), (4, 2)))
        self.norm, self.after = (nn.LayerNorm(4, eps=1e-20) for _ in range(2))
        self.branch = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 4, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(torch.tanh(self.write(x)))
        inner = self.inner(x) + self.bias
        out: Tensor = self.last(torch.tanh(self.after(h + self.branch(h) + inner)))
        if self.how == "read twice":
            out = out + self.last(torch.tanh(inner))
        return out


@pytest.mark.parametrize(("how", "taken"), [("read once", True), ("read twice", False)])
def test_the_bias_of_an_inner_sum(how: str, taken: bool) -> None:
    network = Network(
        how, prepared(_Beside(how)), lambda g: (torch.randn(40, 3, generator=g, dtype=torch.float64),), "output"
    )
    found = find_symmetries(network.module, network.batch(), network.loss_fn)
    verdict = judge(network, found)
    assert verdict.sound
    assert (
        any({"bias", "norm.bias"} <= {*family.parameters, *family.action.inputs} for family in found.families) == taken
    )
