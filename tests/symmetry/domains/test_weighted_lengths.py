"""Squares that are summed with weights before they are summed to lengths, as by factorisation machines."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from neuralmechanics.symmetry.families.actions import Rotation

from ..agreement import amounts, change, judge
from ..network import Network, prepared

Of = Callable[[Tensor, Tensor, Tensor], Tensor]  # the data, and two tables of three numbers for each of five features


def machine(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    """Σ_{i<j} ⟨v_i, v_j⟩ x_i x_j, as Rendle (2010) computes it; the second table adds nothing but its product."""
    return ((x @ v).square() - x.square() @ v.square()).sum(-1, keepdim=True) + x @ u @ u.T @ x.T[:, :1]


def apart(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    return ((x @ v) * (x @ v)).sum(-1) - ((x * x) @ (v * v)).mean(-1)


def einsum(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    together = torch.einsum("bi,ik->bk", x, v).pow(2).sum(1)
    return together - torch.einsum("bi,ik->b", x.pow(2), v.pow(2))


def by_fields(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    each = x[:, :, None] * v
    return 0.5 * (each.sum(1).square() - each.square().sum(1)).sum(-1)


def two_tables(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    first = ((x @ v).square() - x.square() @ u.square()).sum(-1, keepdim=True)
    return torch.cat([first, (x @ v) @ u.T], -1)


def scaled(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    return ((x @ v).square() - 0.5 * x.square() @ v.square()).sum(-1)


def beside_products(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    return (x.square() @ v.square()).sum(-1, keepdim=True) * (x @ v @ v.T)


TURNING: dict[Of, list[int]] = {  # the widths of what turns
    machine: [3, 3],
    apart: [3],
    einsum: [3],
    by_fields: [3],
    two_tables: [3],
    scaled: [3],
    beside_products: [3],
}


def curved(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    return ((x @ v).square() - x.square() @ v.square()).tanh().sum(-1)


def curved_before(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    return ((x @ v).tanh().square() - x.square() @ v.square()).sum(-1)


def cubes(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    return ((x @ v).pow(3) - x.pow(3) @ v.pow(3)).sum(-1)


def with_itself(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    return ((x @ v).square() - x.square() @ v).sum(-1)


def some_of_them(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    return ((x @ v).square() - x.square() @ v.square())[:, 1:].sum(-1)


def weighted(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    return ((x @ v).square() - x.square() @ v.square()) @ torch.tensor([1.0, 2.0, 3.0], dtype=x.dtype)


def squared_again(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    return (x.square() @ v.square()).square().sum(-1)


def never_summed(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    return (x.square() @ v.square()).sum(0)


def data_beside(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    return ((x @ v).square() - x[:, :3].square()).sum(-1)


def products_of_squares(x: Tensor, v: Tensor, u: Tensor) -> Tensor:
    return torch.einsum("ik,ik->i", v.square(), u.square()) * x


STILL: tuple[Of, ...] = (
    curved,
    curved_before,
    cubes,
    with_itself,
    weighted,
    squared_again,
    never_summed,
    data_beside,
    products_of_squares,
    some_of_them,
)


class Tables(nn.Module):
    def __init__(self, of: Of) -> None:
        super().__init__()
        self.of = of
        self.v, self.u = (nn.Parameter(torch.ones(5, 3)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.of(x, self.v, self.u)


def network(of: Of) -> Network:
    def inputs(generator: torch.Generator) -> tuple[Tensor]:
        return (torch.randn(60, 5, generator=generator, dtype=torch.float64),)

    return Network(of.__name__, prepared(Tables(of)), inputs)


@pytest.mark.parametrize("of", TURNING)
def test_tables_turn_together(of: Of) -> None:
    n = network(of)
    symmetries = find_symmetries(n.module, n.batch())
    turning = [f for f in symmetries if isinstance(f.action, Rotation)]
    assert [f.action.channels for f in turning] == TURNING[of]
    assert judge(n, symmetries).sound
    generator = torch.Generator().manual_seed(1)
    for family in turning:
        assert change(n.module, lambda: n.observed(n.batch()), family, amounts(family, generator, 1.0)) < 1e-12


@pytest.mark.parametrize("of", [two_tables, beside_products, scaled])
def test_as_many_as_the_null_space_has(of: Of) -> None:
    """Where no length is measured by products of data alone: there are rotations and nothing else."""
    n = network(of)
    verdict = judge(n, find_symmetries(n.module, n.batch()))
    assert verdict.truth.clear
    assert verdict.orbit == verdict.truth.fibre - verdict.truth.lone == 3, verdict  # lone: a table that is not read


@pytest.mark.parametrize("of", STILL)
def test_squares_that_are_seen_one_by_one_do_not_turn(of: Of) -> None:
    n = network(of)
    symmetries = find_symmetries(n.module, n.batch())
    assert not [f for f in symmetries if isinstance(f.action, Rotation)]
    assert judge(n, symmetries).sound
