"""Zeros of buffers: what they take away is found, and found to hold while they stay."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from neuralmechanics import find_symmetries, lint
from neuralmechanics.symmetry.passes.zeros.known_zeros import known_zeros
from neuralmechanics.symmetry.passes.zeros.zero_terms import without_zero_terms
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.builder import Builder

from ..zoo.masked import Masked, pruned


def lone(model: nn.Module, batch: torch.Tensor) -> dict[str, int]:
    """How many elements of each parameter get no gradient at several points."""
    silent = {name: torch.ones_like(p, dtype=torch.bool) for name, p in model.named_parameters() if p.requires_grad}
    for _ in range(3):
        for name in silent:
            model.get_parameter(name).data.normal_()
        out = model(torch.randn_like(batch))
        found = torch.autograd.grad((out * torch.randn_like(out)).sum(), [model.get_parameter(n) for n in silent])
        for name, gradient in zip(silent, found, strict=True):
            silent[name] &= gradient == 0
    return {name: int(where.sum()) for name, where in silent.items() if where.any()}


def test_pruned_weights_are_translations_that_need_their_mask() -> None:
    model, batch = pruned("weights").double(), torch.randn(16, 4, dtype=torch.float64)
    symmetries = find_symmetries(model, batch)
    shifts = {family.parameters[0]: family for family in symmetries if family.kind == "translation"}
    assert {name: family.charges for name, family in shifts.items()} == lone(model, batch)
    assert shifts["0.weight_orig"].requires == ("0.weight_mask keeps its zeros",)


def test_pruned_weights_are_linted() -> None:
    model, batch = pruned("weights").double(), torch.randn(16, 4, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    report = lint(model, batch, lambda m, x: m(x).pow(2).sum(), optimizer)
    found = {f.parameters: f.elements for f in report.findings if f.code == "zero-gradient"}
    assert found == {("0.weight_orig",): lone(model, batch)["0.weight_orig"]}


def test_what_only_pruned_weights_read_needs_their_mask_too() -> None:
    model, batch = pruned("units").double(), torch.randn(16, 4, dtype=torch.float64)
    shifts = {f.parameters[0]: f for f in find_symmetries(model, batch) if f.kind == "translation"}
    assert {name: family.charges for name, family in shifts.items()} == lone(model, batch)
    assert all("2.weight_mask keeps its zeros" in family.requires for family in shifts.values())


def test_a_mask_without_zeros_takes_nothing_away() -> None:
    layer = Masked(3, 4, "buffer").double()
    layer.mask.fill_(2.0)
    symmetries = find_symmetries(nn.Sequential(layer, nn.Tanh()), torch.randn(8, 3, dtype=torch.float64))
    assert symmetries.count()["translation"] == 0
    assert all(not family.requires for family in symmetries)


def test_a_mask_that_comes_with_the_batch_is_not_looked_at() -> None:
    def masked(weights: dict[str, torch.Tensor], batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        x, mask = batch
        return torch.tanh(x @ (weights["w"] * mask).T)

    weights = {"w": torch.randn(4, 3)}
    found = find_symmetries(masked, (torch.randn(5, 3), torch.zeros(4, 3)), params=weights)
    assert found.count()["translation"] == 0


def test_zeros_pass_what_keeps_them() -> None:
    d = Builder()
    padded = d.zero_padded(d.parameter("x", (2, 3)), 1, 1, 1)
    scaled = d.scaled(padded, 2.0)
    positive = d.homogeneous(scaled)
    joined = d.mul(positive, d.add_number(scaled, 1.0))
    around = {1: frozenset({0, 4})}
    assert known_zeros(d.program()) == {value.index: around for value in (padded, scaled, positive, joined)}


def test_a_sum_over_zeros_is_a_sum_over_the_rest() -> None:
    d = Builder()
    padded = d.zero_padded(d.parameter("x", (2, 3)), 1, 1, 1)
    d.fix(d.contract(padded, d.parameter("w", (4, 5)), Contraction("az", "yz", "ay")))
    product = without_zero_terms(d.program()).instructions[-2]
    assert [x.shape for x in product.operands] == [(2, 3), (4, 3)]
    taken = without_zero_terms(d.program()).makers()[product.operands[1].index].primitive
    np.testing.assert_array_equal(taken.view.positions, [1, 2, 3])
