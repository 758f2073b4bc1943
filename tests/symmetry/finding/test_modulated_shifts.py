"""Shifts of what is modulated, y = g(c)·h(x) + b(c): the maps that b is made of take them on, however it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import Symmetries, find_symmetries
from neuralmechanics.rewrite import fold

from ..agreement import amounts, change, judge
from ..network import Network, prepared

Maps = nn.ModuleDict
Formula = Callable[[Maps, Tensor, Tensor], Tensor]
_ROWS = 40


def _cut(m: Maps, c: Tensor) -> Sequence[Tensor]:
    return m["m"](c).chunk(2, -1)  # type: ignore[no-any-return]


def _twice(m: Maps, x: Tensor, c: Tensor) -> Tensor:
    shift = m["b"](c)
    return m["g"](c) * m["h"](x) + shift + torch.sin(shift)  # type: ignore[no-any-return]


# What is modulated, and how many of its shifts are answered.
SPELLINGS: dict[str, tuple[Formula, int]] = {
    "two maps": (lambda m, x, c: m["g"](c) * m["h"](x) + m["b"](c), 4),
    "gain about one": (lambda m, x, c: m["b"](c) + m["h"](x) * (1 + m["g"](c)), 4),
    "written out": (lambda m, x, c: (h := m["h"](x)) + h * m["g"](c) + m["b"](c), 4),
    "less twice": (lambda m, x, c: m["b"](c) - m["h"](x) * (0.5 - 2 * m["g"](c)), 4),
    "one map, cut": (lambda m, x, c: m["h"](x) * _cut(m, c)[0] + _cut(m, c)[1], 4),
    "one map, addcmul": (lambda m, x, c: torch.addcmul((p := m["m"](c))[:, :4], m["h"](x), 1 + p[:, 4:]), 4),
    "heads": (lambda m, x, c: (m["h"](x).view(-1, 2, 2) * m["s"](c)[:, :, None]).flatten(1) + m["b"](c), 4),
    "a function of the data": (lambda m, x, c: m["g"](torch.sin(c)) * m["h"](x) + m["b"](torch.sin(c)), 4),
    "behind a norm": (lambda m, x, c: m["g"](c) * m["norm"](torch.tanh(m["h"](x))) + m["b"](c), 4),
    "of the input": (lambda m, x, c: m["h"](x) * m["g"](c) + m["h"](x) + m["b"](c), 4),
    "through a sigmoid": (lambda m, x, c: torch.sigmoid(m["g"](c)) * m["h"](x) + m["b"](c), 0),
    "other data": (lambda m, x, c: m["g"](c) * m["h"](x) + m["b"](torch.sin(c)), 0),
    "read elsewhere": (_twice, 0),
    "added through a mask": (lambda m, x, c: m["g"](c) * m["h"](x) + m["b"](c) * (c[:, :1] > 0), 0),
}
SLOW = {
    "less twice",
    "one map, addcmul",
    "a function of the data",
    "of the input",
    "other data",
    "added through a mask",
}


class _Modulated(nn.Module):
    def __init__(self, formula: Formula) -> None:
        super().__init__()
        sizes = {"h": (3, 4), "g": (2, 4), "b": (2, 4), "m": (2, 8), "s": (2, 2)}
        self.maps = nn.ModuleDict({name: nn.Linear(*size) for name, size in sizes.items()})
        self.maps["norm"] = nn.LayerNorm(4, eps=1e-20)
        self.formula, self.last = formula, nn.Linear(4, 2)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.last(torch.tanh(self.formula(self.maps, x, c)))  # type: ignore[no-any-return]


def _pruned(module: nn.Module, network: Network) -> None:
    """Maps that the formula does not read are no parameters of the network."""
    network.module(*network.batch()).sum().backward()
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None


def _network(formula: Formula) -> Network:
    torch.manual_seed(0)

    def inputs(g: torch.Generator) -> tuple[Any, ...]:
        return tuple(torch.randn(_ROWS, n, generator=g, dtype=torch.float64) for n in (3, 2))

    network = Network("", prepared(_Modulated(formula)), inputs)
    _pruned(network.module, network)
    return network


def _modulated(found: Symmetries) -> int:
    """How many shifts weights answer."""
    return sum(f.size for f in found if getattr(f.action, "products", ()))


def _assert_complete(network: Network, found: Symmetries) -> None:
    verdict = judge(network, found)
    assert verdict.sound, verdict
    assert verdict.equal, verdict
    assert verdict.orbit == verdict.truth.fibre, verdict


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in SPELLINGS])
def test_shifts_of_what_is_modulated(name: str) -> None:
    formula, count = SPELLINGS[name]
    network = _network(formula)
    found = find_symmetries(network.module, network.batch())
    assert _modulated(found) == count
    _assert_complete(network, found)
    draw, batch = torch.Generator().manual_seed(1), network.batch()
    for family in found:
        if getattr(family.action, "products", ()):
            amount = amounts(family, draw, 0.3)
            assert change(network.module, lambda: network.observed(batch), family, amount) < 1e-12


class _Pictures(nn.Module):
    """Channels of pictures, by labels or by another picture."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.conv, self.norm = how, nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3, eps=1e-20)
        self.table, self.last = nn.Embedding(4, 6), nn.Linear(3, 2)
        self.gain, self.shift = (nn.Conv2d(2, 3, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        h = self.norm(self.conv(x)) if "norm" in self.how else self.conv(x)
        if "labels" in self.how:
            label = (c[:, 0, 0, 0] > 0).long() + 2 * (c[:, 1, 0, 0] > 0).long()
            gain, shift = self.table(label)[:, :, None, None].chunk(2, 1)
        else:
            gain, shift = self.gain(c), self.shift(c)
        y = torch.addcmul(shift, h, 1 + gain) if "one" in self.how else gain * h + shift
        return self.last(torch.tanh(y).mean((2, 3)))  # type: ignore[no-any-return]


_PICTURES = ["labels, norm", pytest.param("labels, one", marks=pytest.mark.slow), "pictures, one"]


@pytest.mark.parametrize("how", _PICTURES)
def test_channels_of_pictures(how: str) -> None:
    torch.manual_seed(0)

    def inputs(g: torch.Generator) -> tuple[Any, ...]:
        return tuple(torch.randn(8, 2, 4, 4, generator=g, dtype=torch.float64) for _ in range(2))

    network = Network("", prepared(_Pictures(how)), inputs)
    _pruned(network.module, network)
    found = find_symmetries(network.module, network.batch())
    assert _modulated(found) == 3
    _assert_complete(network, found)


Scores = Callable[[nn.ModuleDict, Tensor, Tensor], Tensor]
FACTORS: dict[str, tuple[Scores, int]] = {
    "summed": (lambda m, u, v: (m["p"](u) * m["q"](v)).sum(-1) + m["a"](u)[:, 0] + m["b"](v)[:, 0], 4),
    "batched": (lambda m, u, v: (m["p"](u)[:, None] @ m["q"](v)[..., None])[:, 0] + (m["a"](u) + m["b"](v)), 4),
    "one side": (lambda m, u, v: torch.einsum("nk,nk->n", m["p"](u), m["q"](v)) + m["a"](u).squeeze(-1), 2),
    "whole table": (lambda m, u, v: m["p"].weight @ m["q"].weight.T + m["a"].weight + m["b"].weight.T, 4),
    "without biases": (lambda m, u, v: functional.logsigmoid((m["p"](u) * m["q"](v)).sum(-1)), 0),
}


@pytest.mark.parametrize("name", FACTORS)
def test_scores_of_factors_with_biases(name: str) -> None:
    scores, count = FACTORS[name]

    class Factors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = {"p": (5, 2), "q": (6, 2), "a": (5, 1), "b": (6, 1)}
            self.maps = nn.ModuleDict({n: nn.Embedding(*size) for n, size in sizes.items()})

        def forward(self, u: Tensor, v: Tensor) -> Tensor:
            return torch.tanh(scores(self.maps, u, v))

    torch.manual_seed(0)

    def inputs(g: torch.Generator) -> tuple[Any, ...]:
        return torch.randint(5, (60,), generator=g), torch.randint(6, (60,), generator=g)

    network = Network("", prepared(Factors()), inputs)
    _pruned(network.module, network)
    found = find_symmetries(network.module, network.batch())
    assert _modulated(found) == count
    _assert_complete(network, found)


def test_a_bias_whose_shift_weights_answer_is_not_folded_by_biases_alone() -> None:
    network = _network(SPELLINGS["behind a norm"][0])
    batch = network.batch()
    before = network.module(*batch)
    folded = fold(network.module, batch)
    after = torch.func.functional_call(network.module, dict(folded.params), batch)
    assert torch.allclose(before, after, atol=1e-12)
