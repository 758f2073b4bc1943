"""Amounts of finite transformations: matrices of any determinant, and negative factors where the group has them."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from neuralmechanics import Symmetries, find_symmetries
from neuralmechanics.symmetry import Family

from .networks import prepared, transformer


def changed(model: nn.Module, batch: Tensor, params: dict[str, Tensor]) -> float:
    with torch.no_grad():
        before = model(batch)
        return float((functional_call(model, params, (batch,)) - before).abs().max() / before.abs().max())


def network(*layers: nn.Module) -> tuple[nn.Module, Tensor, Symmetries, dict[str, Tensor]]:
    model = prepared(nn.Sequential(*layers))
    batch = torch.randn(9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return model, batch, find_symmetries(model, batch), dict(model.named_parameters())


def matrix(width: int, determinant: float) -> Tensor:
    noise = torch.randn(width, width, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    rotation = torch.linalg.qr(noise)[0]
    size = abs(determinant) ** (1 / width)
    if float(torch.linalg.det(rotation)) * determinant < 0:
        rotation = rotation[torch.tensor([1, 0, *range(2, width)])]
    return size * rotation


def only(symmetries: Symmetries, kind: str) -> Family:
    (family,) = symmetries.of_kind(kind)
    return family


@pytest.mark.parametrize("determinant", [1.0, -1.0, 8.0, -8.0])
def test_a_linear_block_by_a_matrix(determinant: float) -> None:
    model, batch, symmetries, params = network(nn.Linear(3, 4), nn.Linear(4, 2))
    amount = matrix(4, determinant)
    moved = only(symmetries, "linear").transform(params, amount)
    assert torch.allclose(moved["0.weight"], amount @ params["0.weight"])
    assert changed(model, batch, moved) < 1e-12


@pytest.mark.parametrize("determinant", [1.0, -1.0])
def test_a_rotation_or_a_reflection(determinant: float) -> None:
    model, batch, symmetries, params = network(nn.Linear(3, 4), nn.RMSNorm(4), nn.Linear(4, 2))
    amount = matrix(4, determinant)
    turned = next(f for f in symmetries.of_kind("linear") if getattr(f.action, "group", "") == "orthogonal")
    moved = turned.transform(params, amount)
    assert torch.allclose(moved["0.weight"], amount @ params["0.weight"])
    assert changed(model, batch, moved) < 1e-12


@pytest.mark.parametrize("determinant", [8.0, -8.0])
def test_a_mixing_through_a_gain(determinant: float) -> None:
    class Gain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.gain * x

    model, batch, symmetries, params = network(nn.Linear(3, 4), Gain(), nn.Linear(4, 2))
    general = next(f for f in symmetries.of_kind("linear") if getattr(f.action, "group", "") == "general")
    assert changed(model, batch, general.transform(params, matrix(4, determinant))) < 1e-12


def test_matrices_without_inverse_are_refused() -> None:
    _, _, symmetries, params = network(nn.Linear(3, 4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="without inverse"):
        only(symmetries, "linear").transform(params, torch.ones(4, 4, dtype=torch.float64))


def test_a_negative_gain_is_folded_to_one() -> None:
    """γ = -3 between a norm and a linear map that reads it: γ·a = 1 and W / a with a = -1/3."""
    model, batch, symmetries, params = network(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    gains = next(f for f in symmetries.of_kind("rescale") if "1.weight" in f.parameters)
    with torch.no_grad():
        params["1.weight"][:] = torch.tensor([-3.0, 2.0, -0.5, 1.0])
    moved = gains.transform(params, 1 / params["1.weight"].detach())
    assert torch.equal(moved["1.weight"], torch.ones(4, dtype=torch.float64))
    assert torch.allclose(moved["2.weight"], params["2.weight"] * params["1.weight"])
    assert changed(model, batch, moved) < 1e-12


@pytest.mark.parametrize(
    ("activation", "signed"), [(nn.ReLU(), False), (nn.LeakyReLU(0.2), False), (nn.Identity(), None)]
)
def test_a_kink_has_no_negative_factors(activation: nn.Module, signed: bool | None) -> None:
    _, _, symmetries, params = network(nn.Linear(3, 4), activation, nn.Linear(4, 2))
    families = symmetries.of_kind("rescale")
    if signed is None:
        assert not len(families)
        return
    (family,) = families
    assert family.action.signed is signed
    with pytest.raises(ValueError, match="a factor must be positive, got -1"):
        family.transform(params, -1.0)


def test_the_rows_before_a_batch_norm_have_none_alone() -> None:
    """The norm forgets their size and not their sign, which a gain would have to take back."""
    _, _, symmetries, _ = network(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    (family,) = symmetries.of_kind("scale")
    assert not family.action.signed


def test_every_signed_family_of_a_transformer() -> None:
    model = prepared(transformer(nn.RMSNorm, 4, 2))
    batch = torch.randint(7, (2, 3), generator=torch.Generator().manual_seed(1))
    symmetries = Symmetries.from_dict(json.loads(json.dumps(find_symmetries(model, batch).to_dict())))
    params, draw = dict(model.named_parameters()), torch.Generator().manual_seed(2)
    signed = [f for f in symmetries.of_kind("rescale") if f.action.signed]
    assert len(signed) == len(symmetries.of_kind("rescale")) == 7
    for family in signed:
        amount = torch.randn(family.size, generator=draw, dtype=torch.float64)
        assert changed(model, batch, family.transform(params, amount)) < 1e-11
        with pytest.raises(ValueError, match="a factor must not be zero"):
            family.transform(params, 0.0)
