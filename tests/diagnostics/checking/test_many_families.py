"""Many families are looked at together, and one that is false among them is named as if it had been alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from neuralmechanics import Symmetries, find_symmetries
from neuralmechanics.diagnostics.checking.checking import check_symmetries
from neuralmechanics.diagnostics.checking.halving import by_halves
from neuralmechanics.diagnostics.checking.report import CheckReport, FamilyCheck
from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry import Family
from neuralmechanics.symmetry.families.actions import Diagonal

from .faults import batches, cross_entropy

DEPTH, PLACE = 8, 5  # layers, and the one that is off


def slow(value: Any) -> Any:
    return pytest.param(value, marks=pytest.mark.slow)


class Scaled(torch.autograd.Function):
    """The identity, whose backward pass is off by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None


class Bent(torch.autograd.Function):
    """The identity with a right gradient and a wrong second derivative: the gradient is scaled by 1 + (g - g)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * (1 + grad.sin() - grad.detach().sin())


class Layer(nn.Module):
    """x + what a ReLU network makes of its norm; the weight's gradient is off by ``factor``."""

    def __init__(self, norm: type[nn.Module], factor: float, bent: bool) -> None:
        super().__init__()
        self.norm, self.entry, self.exit = norm(6), nn.Linear(6, 5), nn.Linear(5, 6)
        self.factor, self.bent = factor, bent

    def forward(self, x: Tensor) -> Tensor:
        weight = Scaled.apply(self.entry.weight, self.factor) if self.factor != 1 else self.entry.weight
        weight = Bent.apply(weight) if self.bent else weight
        return x + self.exit(torch.relu(nn.functional.linear(self.norm(x), weight, self.entry.bias)))


def network(
    norm: type[nn.Module] = nn.Identity, factor: float = 1.0, bent: bool = False, depth: int = DEPTH
) -> nn.Module:
    torch.manual_seed(0)
    layers = [Layer(norm, factor if k == PLACE else 1.0, bent and k == PLACE) for k in range(depth)]
    return nn.Sequential(nn.Linear(4, 6), *layers, nn.Linear(6, 3)).double()


@cache
def found_in(norm: type[nn.Module] = nn.Identity, depth: int = DEPTH) -> Symmetries:
    return find_symmetries(network(norm, depth=depth), batches()[0], cross_entropy)


def alone(symmetries: Sequence[Family], model: nn.Module) -> dict[str, FamilyCheck]:
    """The slow reference: families that the layer takes part in, and some others, each checked on its own."""
    checked = [f for k, f in enumerate(symmetries) if moves(f) or k % 16 == 0]
    reports = [check_symmetries([f], model, cross_entropy, batches(), samples=2) for f in checked]
    return {report.families[0].family: report.families[0] for report in reports}


def moves(family: Family) -> bool:
    return f"{PLACE + 1}.entry.weight" in family.parameters


def assert_as_alone(report: CheckReport, symmetries: Sequence[Family], model: nn.Module) -> None:
    reference = alone(symmetries, model)
    assert {f.family: f.verdict for f in report.families if f.family in reference} == {
        name: check.verdict for name, check in reference.items()
    }
    noted = {name for name, check in reference.items() if "suspect" in check.reason}
    assert {f.family for f in report.families if "suspect" in f.reason and f.family in reference} == noted


@pytest.mark.parametrize("norm", [nn.Identity, slow(nn.LayerNorm), slow(nn.BatchNorm1d)])
def test_many_true_families_are_judged_as_each_alone(norm: type[nn.Module]) -> None:
    model, symmetries = network(norm), found_in(norm)
    assert len(symmetries) > DEPTH
    report = check_symmetries(symmetries, model, cross_entropy, batches())
    assert report.ok, report
    assert_as_alone(report, symmetries, model)


@pytest.mark.parametrize("norm", [nn.Identity, slow(nn.LayerNorm), slow(nn.BatchNorm1d)])
@pytest.mark.parametrize("factor", [0.5, slow(1 + 1e-9)])
def test_one_wrong_gradient_among_many_is_named(norm: type[nn.Module], factor: float) -> None:
    model, symmetries = network(norm, factor), found_in(norm)
    report = check_symmetries(symmetries, model, cross_entropy, batches())
    assert_as_alone(report, symmetries, model)
    named = {check.family for check in report.broken}
    assert named
    assert named <= {f.name for f in symmetries if moves(f)}


def claimed(model: nn.Module, name: str) -> Family:
    """Every row of a weight is claimed to be a scale symmetry."""
    shape = tuple(model.get_parameter(name).shape)
    numbers = np.arange(shape[0])
    term = SliceTerm(SliceView(name, shape, (0,)), numbers, numbers, np.ones(shape[0]))
    return Family("scale", f"scale: {name} claimed", [str(n) for n in numbers], Diagonal((term,)))


PLACES: tuple[int | None, ...] = (0, 10, None)
PRECISIONS = (torch.float64, torch.float32, torch.bfloat16)


@pytest.mark.parametrize(
    ("place", "dtype"),
    [
        pytest.param(place, dtype, marks=() if PLACES.index(place) == PRECISIONS.index(dtype) else pytest.mark.slow)
        for place in PLACES
        for dtype in PRECISIONS
    ],
)
def test_one_false_claim_among_many_is_named(place: int | None, dtype: torch.dtype) -> None:
    model = network().to(dtype)
    batch = pytree.tree_map(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, batches()[0])
    claims = list(find_symmetries(model, batch, cross_entropy))
    claims.insert(len(claims) if place is None else place, claimed(model, f"{PLACE}.exit.weight"))
    report = check_symmetries(claims, model, cross_entropy, [batch])
    assert [check.family for check in report.broken] == [f"scale: {PLACE}.exit.weight claimed"], report
    assert report.broken[0].invariance.roundings > 20


def test_one_wrong_second_derivative_among_many_is_noted_and_no_other() -> None:
    model, symmetries = network(bent=True), found_in()
    report = check_symmetries(symmetries, model, cross_entropy, batches())
    assert report.ok
    assert_as_alone(report, symmetries, model)
    noted = {check.family for check in report.families if "suspect" in check.reason}
    assert 0 < len(noted) < len(symmetries) / 2


def test_losses_and_hessian_products_do_not_grow_with_the_number_of_families() -> None:
    def used(depth: int) -> int:
        # Lists and numbers that a loss function refers to are put back as they were.
        calls = itertools.count()

        def counted(model: nn.Module, batch: Any) -> Tensor:
            next(calls)
            return cross_entropy(model, batch)

        assert check_symmetries(found_in(depth=depth), network(depth=depth), counted, batches()).ok
        return next(calls)

    assert used(6) == used(12) > 0


@pytest.mark.parametrize("faults", [(), (5,), (0, 63), tuple(range(64))])
def test_halving_finds_each_fault_and_measures_little(faults: tuple[int, ...]) -> None:
    measured: list[tuple[int, ...]] = []
    measure: Callable[[tuple[int, ...]], Any] = measured.append
    found = by_halves(range(64), measure, lambda chosen, _: not set(chosen) & set(faults))
    assert {item for item, (chosen, _) in found.items() if chosen == (item,) and item in faults} == set(faults)
    assert all(
        item in chosen and (len(chosen) == 1 or not set(chosen) & set(faults)) for item, (chosen, _) in found.items()
    )
    assert set(found) == set(range(64))
    assert len(measured) <= 1 + 2 * 6 * max(1, len(faults))
