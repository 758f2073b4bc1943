"""Frequencies of zero in a rotary embedding: what they leave of each channel, against the null space."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from neuralmechanics.symmetry import Symmetries

from ..agreement import judge
from ..network import Network

LENGTH, WIDTH = 4, 3


def half(x: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([-second, first], -1)


class Rotary(nn.Module):
    """Attention of which queries and keys have gains and are turned by frequencies that a buffer holds."""

    def __init__(self, spelling: str, frequencies: tuple[float, ...]) -> None:
        super().__init__()
        self.spelling = spelling
        channels = 2 * len(frequencies)
        self.query, self.key = nn.Linear(WIDTH, channels, bias=False), nn.Linear(WIDTH, channels, bias=False)
        self.gains = nn.ParameterList([torch.rand(channels) + 0.5, torch.rand(channels) + 0.5])
        self.register_buffer("frequencies", torch.tensor(frequencies, dtype=torch.float64))

    def turned(self, x: Tensor) -> Tensor:
        angles = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * self.frequencies
        both = torch.cat([angles, angles], -1)
        first, second = x.chunk(2, -1)
        even, odd = x[..., ::2], x[..., 1::2]
        c, s = angles.cos(), angles.sin()
        return {
            "half": lambda: x * both.cos() + half(x) * both.sin(),
            "sines first": lambda: half(x) * both.sin() + x * both.cos(),
            "minus": lambda: both.cos() * x - both.sin() * -half(x),
            "parts": lambda: torch.cat([first * c - second * s, second * c + first * s], -1),
            "interleaved": lambda: torch.stack([even * c - odd * s, odd * c + even * s], -1).flatten(-2),
            "scaled": lambda: x * (both.cos() * 1.5) + half(x) * (both.sin() * 1.5),
            "addcmul": lambda: torch.addcmul(x * both.cos(), half(x), both.sin()),
        }[self.spelling]()

    def forward(self, x: Tensor) -> Tensor:
        query, key = (nn.functional.rms_norm(y, y.shape[-1:], eps=1e-20) * gain
                      for y, gain in zip((self.query(x), self.key(x)), self.gains, strict=True))  # fmt: skip
        return torch.softmax(self.turned(query) @ self.turned(key).mT, -1) @ x


def searched(module: nn.Module) -> Symmetries:
    return find_symmetries(module, torch.randn(2, LENGTH, WIDTH, dtype=torch.float64))


SOME, ALL = (0.7, 0.0), (0.0, 0.0)
LATER = [
    pytest.param(spelling, frequencies, marks=pytest.mark.slow)
    for spelling in ("half", "sines first", "minus", "parts", "interleaved", "scaled", "addcmul")
    for frequencies in (SOME, ALL)
    if (spelling, frequencies) not in (("half", SOME), ("parts", ALL))
]


@pytest.mark.parametrize(("spelling", "frequencies"), [("half", SOME), ("parts", ALL), *LATER])
def test_gains_of_still_channels_are_free_of_each_other(spelling: str, frequencies: tuple[float, ...]) -> None:
    module = Rotary(spelling, frequencies).double()
    network = Network(spelling, module, lambda g: (torch.randn(16, LENGTH, WIDTH, generator=g, dtype=torch.float64),))
    found = judge(network, searched(module))
    assert found.sound, found
    assert found.diagonal == found.truth.multiplicative, found


def test_the_buffer_of_frequencies_is_required_where_it_is_looked_at() -> None:
    told = "frequencies keeps the values that it had"
    assert all(told in family.requires for family in searched(Rotary("half", (0.7, 0.0)).double()))
    gains = [f for f in searched(Rotary("half", (0.7, 0.3)).double()) if f.kind == "rescale"]
    assert gains
    assert not any(told in family.requires for family in gains)
