"""Masks that put in a number which a tensor holds: shifts and shears of keys, against the null space."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries

from ..agreement import Verdict, judge
from ..network import Network

LENGTH, WIDTH = 4, 3


class Attention(nn.Module):
    """One head behind a centring norm, with scores that are hidden as the spelling says it."""

    def __init__(self, spelling: str, bias: bool) -> None:
        super().__init__()
        self.spelling = spelling
        self.norm = nn.LayerNorm(WIDTH, eps=1e-20)
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH, bias=bias)
        self.register_buffer("low", torch.tensor(-1e30))
        self.learned = nn.Parameter(torch.tensor(-1.0), requires_grad=spelling == "learned")

    def hidden(self, scores: Tensor) -> Tensor:
        ahead = torch.ones(LENGTH, LENGTH).triu(1).bool()
        kind = scores.dtype
        lowest = torch.finfo(torch.float32).min
        spelled = {
            "tensor": lambda: torch.where(~ahead, scores, torch.tensor(lowest, dtype=kind)),
            "other way": lambda: torch.where(ahead, torch.tensor(-1e9, dtype=kind), scores),
            "full": lambda: torch.where(ahead, torch.full([], lowest, dtype=kind), scores),
            "wide": lambda: torch.where(ahead, torch.full((LENGTH, LENGTH), lowest, dtype=kind), scores),
            "infinite": lambda: torch.where(ahead, torch.tensor(-torch.inf, dtype=kind), scores),
            "product": lambda: torch.where(ahead, -1e9 * torch.ones(1, dtype=kind), scores),
            "buffer": lambda: torch.where(ahead, self.low, scores),
            "filled": lambda: scores.masked_fill(ahead, torch.tensor(lowest, dtype=kind)),
            "filled from a buffer": lambda: scores.masked_fill(ahead, self.low),
            "twice": lambda: torch.where(ahead, torch.tensor(-1e9, dtype=kind), scores) + torch.where(ahead, -1e9, 0.0),
            "small": lambda: torch.where(ahead, torch.tensor(-1.0, dtype=kind), scores),
            "unequal": lambda: torch.where(ahead, torch.tensor([-1.0, -2.0, -3.0, -1.0], dtype=kind), scores),
            "learned": lambda: torch.where(ahead, self.learned, scores),
        }
        return spelled[self.spelling]()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return self.hidden(self.query(y) @ self.key(y).mT).softmax(-1) @ x


def verdict(module: Attention) -> Verdict:
    network = Network(module.spelling, module, lambda g: (torch.randn(20, LENGTH, WIDTH, generator=g).double(),))
    return judge(network, find_symmetries(module, network.batch()[0]))


ALWAYS = ("tensor", "filled", "small")
HIDDEN = [
    *("tensor", "other way", "full", "wide", "infinite", "product", "buffer", "filled", "filled from a buffer"),
    "twice",
]
SEEN = ["small", "unequal"]
SLOW = pytest.mark.slow


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("spelling", [s if s in ALWAYS else pytest.param(s, marks=SLOW) for s in (*HIDDEN, *SEEN)])
def test_keys_move_where_the_number_hides(spelling: str, bias: bool) -> None:
    """Shifts of the keys' bias, or shears of their map, that softmax forgets unless it sees the number that is put in.

    Of a number that is seen nothing else is missed: there the null space is as small.
    """
    judged = verdict(Attention(spelling, bias).double())
    assert judged.sound, (judged.violator, judged.violation)
    assert judged.complete, judged


@pytest.mark.parametrize("spelling", ["buffer", "filled from a buffer"])
def test_the_buffer_of_a_number_is_required(spelling: str) -> None:
    module = Attention(spelling, True).double()
    found = find_symmetries(module, torch.randn(2, LENGTH, WIDTH).double())
    shifted = [f for f in found if f.kind == "translation" and "key.bias" in f.action.parameters]
    assert shifted
    assert all("low keeps the values that it had" in f.requires for f in shifted)


def test_a_number_that_is_learned_is_seen() -> None:
    judged = verdict(Attention("learned", True).double())
    assert judged.sound, (judged.violator, judged.violation)
    assert judged.truth.translations == judged.translations == 0
