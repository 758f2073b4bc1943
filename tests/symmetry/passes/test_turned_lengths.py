"""Rotary pairs of several heads under norms without gains: one rotation a pair and a head, against the null space."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import find_symmetries
from neuralmechanics.rewrite import equivalent
from neuralmechanics.symmetry.families.actions import Rotation

from ..agreement import Verdict, judge
from ..network import Network

HEADS, SIZE, LENGTH, WIDTH = 2, 4, 3, 5


def angles() -> Tensor:
    places = torch.arange(1, LENGTH + 1, dtype=torch.float64)
    return places[:, None] * torch.tensor([1.0, 0.3], dtype=torch.float64)


def halves(x: Tensor, sign: float = 1.0) -> Tensor:
    """Channel i with i + D/2, of [..., places, channels]."""
    turn = torch.cat([angles(), angles()], -1)
    a, b = x.chunk(2, -1)
    return x * turn.cos() + torch.cat([-sign * b, sign * a], -1) * turn.sin()


def interleaved(x: Tensor) -> Tensor:
    turn = angles().repeat_interleave(2, -1)
    other = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
    return x * turn.cos() + other * turn.sin()


def complexes(x: Tensor) -> Tensor:
    numbers = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(numbers * torch.polar(torch.ones_like(angles()), angles())).flatten(-2)


def complexes_of_heads(x: Tensor) -> Tensor:
    """Of [..., places, heads, channels], before the heads stand in front."""
    numbers = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(numbers * torch.polar(torch.ones_like(angles()), angles())[:, None]).flatten(-2)


def partly(x: Tensor) -> Tensor:
    """Two channels turn, two do not."""
    turn = angles()[:, :1]
    a, b = x[..., :1], x[..., 1:2]
    return torch.cat([a * turn.cos() - b * turn.sin(), b * turn.cos() + a * turn.sin(), x[..., 2:]], -1)


def sphere(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True))


class Attention(nn.Module):
    """Heads of queries and keys that are turned and seen by length, in the order that the spelling says."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        groups = 1 if spelling == "groups" else HEADS
        self.q, self.k = (nn.Linear(WIDTH, n * SIZE, bias=False) for n in (HEADS, groups))
        self.gain = nn.Parameter(torch.ones(SIZE), requires_grad="gain" in spelling)

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, SIZE)).transpose(1, 2)

    def turned(self, x: Tensor) -> Tensor:
        spelled = {
            "halves": lambda: sphere(halves(self.heads(x))),
            "flipped": lambda: sphere(halves(self.heads(x), -1.0)),
            "interleaved": lambda: functional.rms_norm(interleaved(self.heads(x)), (SIZE,), eps=1e-20),
            "complex": lambda: sphere(complexes(self.heads(x))),
            "complex before heads": lambda: sphere(complexes_of_heads(x.unflatten(-1, (-1, SIZE))).transpose(1, 2)),
            "cosine": lambda: functional.normalize(halves(self.heads(x)), dim=-1, eps=1e-20),
            "norm first": lambda: halves(sphere(self.heads(x))),
            "norm of the flat": lambda: halves(self.heads(sphere(x))),
            "groups": lambda: sphere(halves(self.heads(x))),
            "partly": lambda: sphere(partly(self.heads(x))),
            "gain": lambda: sphere(halves(self.heads(x))) * self.gain,
            "gain first": lambda: halves(sphere(self.heads(x)) * self.gain),
            "centred": lambda: functional.layer_norm(halves(self.heads(x)), (SIZE,), eps=1e-20),
        }
        return spelled[self.spelling]()

    def forward(self, x: Tensor) -> Tensor:
        q, k = self.turned(self.q(x)), self.turned(self.k(x))
        return (q @ k.mT).softmax(-1) @ x[:, None]


def verdict(module: Attention) -> Verdict:
    network = Network(module.spelling, module, lambda g: (torch.randn(24, LENGTH, WIDTH, generator=g).double(),))
    return judge(network, find_symmetries(module, network.batch()[0]))


TURNED = {
    "halves": 4,
    "flipped": 4,
    "interleaved": 4,
    "complex": 4,
    "complex before heads": 4,
    "cosine": 4,
    "norm first": 4,
    "norm of the flat": 4,
    "groups": 2,
    "gain": 0,
    "gain first": 0,
    "centred": 0,
}
ALWAYS = ("flipped", "complex before heads", "gain first")


@pytest.mark.parametrize("spelling", [s if s in ALWAYS else pytest.param(s, marks=pytest.mark.slow) for s in TURNED])
def test_one_rotation_a_pair_of_each_head(spelling: str) -> None:
    module = Attention(spelling).double()
    judged = verdict(module)
    assert judged.sound, (judged.violator, judged.violation)
    assert judged.complete, judged
    found = find_symmetries(module, torch.randn(2, LENGTH, WIDTH).double())
    turns = [f.action for f in found if isinstance(f.action, Rotation) and f.action.group == "paired"]
    assert sum(action.size for action in turns) == TURNED[spelling]


@pytest.mark.slow
def test_channels_beside_those_that_turn() -> None:
    judged = verdict(Attention("partly").double())
    assert judged.sound, (judged.violator, judged.violation)


@pytest.mark.parametrize("spelling", ["flipped", "complex before heads"])
def test_turned_heads_are_the_same_network(spelling: str) -> None:
    """``equivalent`` finds an angle for each pair of each head again."""
    module, x = Attention(spelling).double(), torch.randn(2, LENGTH, WIDTH).double()
    before = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}
    found = find_symmetries(module, x)
    (turn,) = [f.action for f in found if isinstance(f.action, Rotation) and f.action.group == "paired"]
    after = turn.transform(before, torch.linspace(-2, 2, turn.size, dtype=torch.float64))
    assert equivalent(module, x, before, after)
    wrong = {**after, "k.weight": after["k.weight"].flip(0)}
    assert not equivalent(module, x, before, wrong)
