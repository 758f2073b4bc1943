"""Canonical forms and fingerprints: equal on an orbit, different off it, refused where nothing fixes them."""

from __future__ import annotations

import pytest
import torch
from tests.symmetry.families.spaces.networks import prepared
from tests.symmetry.families.spaces.test_elements import CASES
from torch import nn
from torch.func import functional_call

from neuralmechanics import find_symmetries
from neuralmechanics.rewrite.comparing import canonical, fingerprint, interpolate

from .planting import distance, planted, state_of
from .test_dependent_shifts import Attention


@pytest.mark.parametrize("name", ["relu", "layer-norm"])
def test_equal_for_equivalent_networks(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in ("relu", "layer-norm", "linear", "shuffled")])
def test_equal_for_equivalent_networks_of_many_kinds(name: str) -> None:
    check(name)


def test_a_network_that_no_rule_fixes_is_refused() -> None:
    """Values whose shears are solved for: what a norm forgets of its readers and these are not fixed at once."""
    torch.manual_seed(0)
    end = (nn.LayerNorm(8, eps=0.0), nn.Linear(8, 3, bias=False))
    model = prepared(nn.Sequential(nn.Embedding(7, 8), Attention(), *end))
    with pytest.raises(ValueError, match=r"no canonical form.*nothing fixes family"):
        canonical(model, torch.randint(0, 7, (2, 5)), state_of(model))


@pytest.mark.parametrize("norm", [nn.LayerNorm(4, eps=0.0), nn.GroupNorm(1, 4, eps=0.0)])
def test_what_a_centring_norm_forgets_is_fixed(norm: nn.Module) -> None:
    """β over γ against two readers without a bias: another network of the same function has the same form."""

    class Readers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.norm = nn.Linear(3, 4), norm
            self.first, self.second = nn.Linear(4, 3, bias=False), nn.Linear(4, 2, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.norm(self.enter(x))
            return torch.cat([torch.tanh(self.first(h)), self.second(h)], -1)

    model, batch = prepared(Readers()), torch.randn(5, 3, dtype=torch.float64)
    before = state_of(model)
    symmetries = find_symmetries(model, batch)
    assert any(getattr(family.action, "along_ones", False) for family in symmetries)
    after = planted(symmetries, 5).transform(before)
    assert distance(before, after) > 0.1
    assert distance(canonical(model, batch, before), canonical(model, batch, after)) < 1e-11
    assert distance(fingerprint(model, batch, before), fingerprint(model, batch, after)) < 1e-11


def check(name: str) -> None:
    model, batch = CASES[name]()
    model = prepared(model)
    before = state_of(model)
    after = planted(find_symmetries(model, batch), 5).transform(before)
    fixed = canonical(model, batch, before)
    assert distance(before, after) > 0.1
    assert distance(fixed, canonical(model, batch, after)) < 1e-11
    with torch.no_grad():
        assert torch.allclose(functional_call(model, fixed, batch), functional_call(model, before, batch), atol=1e-10)
    prints = fingerprint(model, batch, before)
    assert distance(prints, fingerprint(model, batch, after)) < 1e-11
    assert distance(prints, fingerprint(model, batch, state_of(prepared(model, 4)))) > 1e-2


def test_least_norm_is_the_geometric_mean_of_both_sides() -> None:
    """Two linear layers of full rank: W → A W, V → V A⁻¹ leaves the singular values of V W, spread evenly."""
    model = prepared(nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 3, bias=False)))
    found = fingerprint(model, torch.zeros(1, 4, dtype=torch.float64), state_of(model))
    product = model[1].weight.detach() @ model[0].weight.detach()
    values = torch.linalg.svdvals(product)[:2].sqrt()
    assert torch.allclose(found["0.weight"], values)
    assert torch.allclose(found["1.weight"], values)


def test_channels_that_are_alike_are_refused() -> None:
    """An orbit that is not closed has no point of least norm: four units between three inputs and two outputs."""
    model = prepared(nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)))
    with pytest.raises(ValueError, match="no canonical form"):
        canonical(model, torch.zeros(1, 3, dtype=torch.float64), state_of(model))


def test_interpolation_of_one_orbit_is_constant_in_function() -> None:
    model, batch = CASES["relu"]()
    model = prepared(model)
    before = state_of(model)
    after = planted(find_symmetries(model, batch), 5).transform(before)
    half = interpolate(model, batch, before, after, 0.5)
    assert distance(before, half) < 1e-12
    assert all(torch.equal(before[name], value) for name, value in interpolate(model, batch, before, after, 0).items())
