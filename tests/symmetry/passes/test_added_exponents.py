"""Products of exponentials: their exponents may be shifted against each other, however the product is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from neuralmechanics.symmetry.passes.summing.exponents import with_added_exponents
from neuralmechanics.symmetry.program.builder import Builder

from ..agreement import amounts, change, judge
from ..network import Network, prepared

Of = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # of hidden channels, and vectors a, b, c of four numbers


def one_after_the_other(h: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return h * torch.exp(a) * torch.exp(b)


def by_themselves(h: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return (h + 1) * (torch.exp(a) * torch.exp(b))


def one_over_the_other(h: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.exp(a) * h / torch.exp(b)


def with_powers(h: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.exp(a) ** 2 * torch.exp(b) ** 3 * h


def of_three(h: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.exp(a) * (h * torch.exp(c)) * torch.exp(-b)


def in_rows(h: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return h @ (a.exp()[:, None] * c.tanh() * b.exp()[None, :])


def of_channels(h: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The exponents are what maps make, whose biases shift against a vector."""
    return torch.exp(h + a) * torch.sin(h) * torch.exp(b)


JOINED: dict[Of, int] = {  # how many translations
    one_after_the_other: 4,
    by_themselves: 4,
    one_over_the_other: 4,
    with_powers: 4,
    of_three: 8,
    in_rows: 1,
    of_channels: 4,
}


def added(h: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return h * (torch.exp(a) + torch.exp(b))


def read_elsewhere(h: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    scale = torch.exp(a)
    return torch.cat([h * scale * torch.exp(b), h + scale], -1)


def parameter_elsewhere(h: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.cat([h * torch.exp(a) * torch.exp(b), h + a], -1)


def of_other_bases(h: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return h * torch.expm1(a) * torch.exp(b)


def minus_one(h: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return h * (torch.exp(a) - 1) * torch.exp(b)


def one_in_sums(h: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return h * torch.exp(a).sum() * torch.exp(b)


APART: tuple[Of, ...] = (added, read_elsewhere, parameter_elsewhere, of_other_bases, minus_one)


class Scaled(nn.Module):
    def __init__(self, of: Of) -> None:
        super().__init__()
        self.of = of
        self.w = nn.Linear(3, 4, bias=False)
        self.a, self.b, self.c = (nn.Parameter(torch.zeros(4)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.of(torch.tanh(self.w(x)), self.a, self.b, self.c)


def network(of: Of) -> Network:
    def inputs(generator: torch.Generator) -> tuple[Tensor]:
        return (torch.randn(40, 3, generator=generator, dtype=torch.float64),)

    module = prepared(Scaled(of))
    if of is in_rows:
        module.c = nn.Parameter(torch.zeros(4, 4, dtype=torch.float64))
    elif of is not of_three:
        module.c.requires_grad_(False)
    return Network(of.__name__, module, inputs)


@pytest.mark.parametrize("of", JOINED)
def test_exponents_shift_against_each_other(of: Of) -> None:
    """As many translations as the null space has, each exact as a finite one."""
    n = network(of)
    symmetries = find_symmetries(n.module, n.batch())
    verdict = judge(n, symmetries)
    assert verdict.truth.clear
    assert verdict.sound, verdict
    assert verdict.translations == verdict.truth.translations == JOINED[of], verdict
    generator = torch.Generator().manual_seed(1)
    for family in symmetries:
        assert change(n.module, lambda: n.observed(n.batch()), family, amounts(family, generator, 0.3)) < 1e-12


@pytest.mark.parametrize("of", APART)
def test_what_is_no_product_of_exponentials_shifts_nothing(of: Of) -> None:
    n = network(of)
    verdict = judge(n, find_symmetries(n.module, n.batch()))
    assert verdict.sound, verdict
    assert verdict.translations == verdict.truth.translations == 0, verdict


def test_an_exponential_of_a_sum_beside_another_shifts_that_alone() -> None:
    """exp(a) in a sum over all channels and exp(b): what b gains as a whole no shift of a takes back."""
    n = network(one_in_sums)
    assert judge(n, find_symmetries(n.module, n.batch())).sound


def test_exponentials_that_something_else_reads_stay() -> None:
    d = Builder()
    one, other = d.exponential(d.parameter("a", (4,))), d.exponential(d.parameter("b", (4,)))
    d.fix(d.mul(one, other), one)
    program = d.program()
    assert with_added_exponents(program) is program
