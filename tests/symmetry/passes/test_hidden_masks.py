"""Masks that are covered by later ones, in a bias by distance: shifts of its rows, against the null space."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries

from ..agreement import judge
from ..network import Network

LENGTH, WIDTH = 4, 3


class Distances(nn.Module):
    """Attention with scores by distance, which are zero where nothing is looked at, as the spelling says it."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.relative = nn.Linear(WIDTH, 2, bias=False)
        self.by_distance = nn.Parameter(torch.randn(2, LENGTH + 1))

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1])
        d = places[:, None] - places
        scores = self.query(x) @ self.key(x).mT
        bias = (self.relative(x) @ self.by_distance).gather(-1, d.clamp(min=0).expand(len(x), *d.shape))
        zero = bias.masked_fill(d < 0, 0.0)
        low = -torch.inf
        seen = {
            "masked": lambda: (scores + zero).masked_fill(d < 0, low),
            "where": lambda: torch.where(d < 0, -1e30, torch.where(d >= 0, bias, 0.0) + scores),
            "triangle": lambda: (bias.tril() + scores).masked_fill(torch.ones_like(d).triu(1).bool(), low),
            "scaled": lambda: (scores + zero * 0.5).masked_fill(d < 0, low),
            "product": lambda: (scores + bias * (d >= 0)).masked_fill(d < 0, low),
            "heads": lambda: (scores[:, None] + zero[:, None]).masked_fill(d < 0, low).squeeze(1),
            "added": lambda: (scores + zero) + torch.where(d < 0, low, 0.0),
            "before": lambda: scores.masked_fill(d < 0, low) + zero,
            "seen on the diagonal": lambda: (scores + bias.masked_fill(d < 1, 0.0)).masked_fill(d < 0, low),
            "seen elsewhere": lambda: (scores + zero.mT).masked_fill(d < 0, low),
            "never covered": lambda: scores + zero,
        }[self.spelling]()
        return seen.softmax(-1) @ x


COVERED = ["masked", "where", "triangle", "scaled", "product", "heads", "added", "before"]


ALWAYS = ("masked", "product", "seen on the diagonal")
LATER = [name for name in (*COVERED, "seen elsewhere", "never covered") if name not in ALWAYS]


@pytest.mark.parametrize("spelling", [*ALWAYS, *(pytest.param(name, marks=pytest.mark.slow) for name in LATER)])
def test_shifts_behind_a_covered_mask_are_those_of_the_null_space(spelling: str) -> None:
    module = Distances(spelling).double()
    network = Network(spelling, module, lambda g: (torch.randn(20, LENGTH, WIDTH, generator=g, dtype=torch.float64),))
    found = judge(network, find_symmetries(module, network.batch()[0]))
    assert found.sound, found
    assert found.translations == found.truth.translations - found.truth.lone, found
    assert (found.translations == 2) == (spelling in COVERED), found
