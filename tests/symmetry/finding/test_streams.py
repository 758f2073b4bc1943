"""Streams of which only some rows are read: shears of experts, rotations beside rows that no place reads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries

from ..agreement import Verdict, judge
from ..network import Network

WIDTH, HIDDEN, LENGTH = 4, 3, 3


class Experts(nn.Module):
    """Two experts behind a centring norm, each of which reads the rows that are chosen for it."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        self.norm = nn.LayerNorm(WIDTH, eps=1e-20, bias=spelling == "biased norm")
        self.up = nn.Parameter(torch.randn(2, HIDDEN, WIDTH))
        self.flat = nn.Parameter(torch.randn(2 * HIDDEN, WIDTH))
        self.maps = nn.ModuleList(nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.down = nn.Parameter(torch.randn(2, WIDTH, HIDDEN))
        used = {"flat": self.flat, "modules": self.maps[0].weight}.get(spelling, self.up)
        for parameter in (self.up, self.flat, *self.maps.parameters()):
            parameter.requires_grad_(used is parameter or (spelling == "modules" and parameter.shape == used.shape))

    def weight(self, k: int) -> Tensor:
        if self.spelling == "modules":
            return self.maps[k].weight
        return self.flat.view(2, HIDDEN, WIDTH)[k] if self.spelling == "flat" else self.up[k]

    def forward(self, x: Tensor) -> Tensor:
        y, out = self.norm(x), torch.zeros_like(x)
        for k in range(2):
            (rows,) = torch.where((x[:, 0] > 0) == bool(k))
            picked = y.index_select(0, rows) if self.spelling == "selected" else y[rows]
            read = picked if self.spelling != "scaled" else picked * x[rows, 1:2].abs()
            out = out.index_add(0, rows, torch.tanh(read @ self.weight(k).mT) @ self.down[k].mT)
        return out


def judged(spelling: str, module: nn.Module, *shape: int) -> Verdict:
    network = Network(spelling, module, lambda g: (torch.randn(*shape, generator=g, dtype=torch.float64),))
    return judge(network, find_symmetries(module, network.batch()[0]))


SPELLINGS = ("stacked", "flat", "modules", "selected", "scaled", "biased norm")


@pytest.mark.parametrize(
    "spelling", [s if s in ("stacked", "flat") else pytest.param(s, marks=pytest.mark.slow) for s in SPELLINGS]
)
def test_experts_behind_a_centring_norm_shear(spelling: str) -> None:
    """W + u (1/γ)ᵀ of each expert; behind a norm's bias it leaves a constant, which nothing takes back."""
    verdict = judged(spelling, Experts(spelling).double(), 40, WIDTH)
    assert verdict.sound, (verdict.violator, verdict.violation)
    assert verdict.complete, verdict


class Placed(nn.Module):
    """A stream with rows for more places than there are, read through norms that see lengths."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        self.enter, self.leave = nn.Linear(3, WIDTH), nn.Linear(WIDTH, 6)
        self.places = nn.Parameter(torch.randn(LENGTH + 2, WIDTH))
        centring = spelling == "centred"
        make = (lambda: nn.LayerNorm(WIDTH, eps=1e-20)) if centring else (lambda: nn.RMSNorm(WIDTH, eps=1e-20))
        self.first, self.last = make(), make()
        self.up, self.down = nn.Linear(WIDTH, 5), nn.Linear(5, WIDTH)

    def rows(self) -> Tensor:
        spelled = {
            "sliced": lambda: self.places[:LENGTH],
            "looked up": lambda: nn.functional.embedding(torch.arange(LENGTH), self.places),
            "from the end": lambda: self.places[2:],
            "apart": lambda: self.places[[0, 2, 4]],
            "centred": lambda: self.places[:LENGTH],
        }
        return spelled[self.spelling]()

    def forward(self, x: Tensor) -> Tensor:
        stream = self.enter(x) + self.rows()
        stream = stream + self.down(torch.tanh(self.up(self.first(stream))))
        return self.leave(self.last(stream))


PLACES = ("sliced", "looked up", "from the end", "apart", "centred")


@pytest.mark.parametrize(
    "spelling", [s if s in ("sliced", "centred") else pytest.param(s, marks=pytest.mark.slow) for s in PLACES]
)
def test_rows_that_no_place_reads_do_not_end_rotations(spelling: str) -> None:
    verdict = judged(spelling, Placed(spelling).double(), 20, LENGTH, 3)
    assert verdict.sound, (verdict.violator, verdict.violation)
    assert verdict.complete, verdict
