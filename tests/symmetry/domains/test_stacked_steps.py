"""Steps of a recurrence, stacked and read by one map: what all have in common beside their channels stays apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import find_symmetries

from ..agreement import judge
from ..network import Network, prepared

Join = Callable[[nn.Linear, Sequence[Tensor]], Tensor]
JOINED: dict[str, Join] = {
    "stacked": lambda o, steps: o(torch.stack([*steps], 1)),
    "joined": lambda o, steps: o(torch.cat([h[:, None] for h in steps], 1)),
    "in front": lambda o, steps: o(torch.stack([*steps])).transpose(0, 1),
    "written": lambda o, steps: o(_written(steps)),
    "each by itself": lambda o, steps: torch.stack([o(h) for h in steps], 1),
}


def _written(steps: Sequence[Tensor]) -> Tensor:
    out = steps[0].new_zeros(len(steps[0]), len(steps), steps[0].shape[1])
    for t, step in enumerate(steps):
        out[:, t] = step
    return out


class _Recurrent(nn.Module):
    """Linear attention step by step; ``delta``: what is stored under a key is written over."""

    def __init__(self, join: Join, delta: bool) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(n, m, bias=False) for n, m in ((3, 2), (3, 2), (3, 2), (2, 2)))
        self.join, self.delta = join, delta

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        k = functional.normalize(k, dim=-1, eps=1e-20) if self.delta else k
        state, steps = x.new_zeros(x.shape[0], 2, 2), []
        for t in range(x.shape[1]):
            new = v[:, t] - torch.einsum("nij,nj->ni", state, k[:, t]) if self.delta else v[:, t]
            state = state + new[:, :, None] * k[:, t, None, :]
            steps.append(torch.einsum("nij,nj->ni", state, q[:, t]))
        return self.join(self.o, steps)


@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize("name", JOINED)
def test_values_are_a_linear_block(name: str, delta: bool) -> None:
    torch.manual_seed(0)

    def inputs(g: torch.Generator) -> tuple[Tensor]:
        return (torch.randn(12, 3, 3, generator=g, dtype=torch.float64),)

    network = Network("", prepared(_Recurrent(JOINED[name], delta)), inputs)
    found = find_symmetries(network.module, network.batch())
    assert any(f.kind == "linear" and {"v.weight", "o.weight"} <= set(f.parameters) for f in found), found
    verdict = judge(network, found)
    assert verdict.sound, verdict
    assert verdict.complete, verdict
