"""Multilayer perceptrons and convolutional networks: the engine's counts equal a brute-force null space."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, currently_in_test_context, given, settings
from torch import nn

from neuralmechanics import find_symmetries

from ...agreement import amounts, change, judge
from ...network import Network, prepared
from ...nullspace import randomise
from ...random_networks import classical_networks

COMMON = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.explicit, Phase.generate],  # failures print their network; shrinking takes minutes
}


def mlp(activation: type[nn.Module], norm: bool = False) -> Network:
    layers: list[nn.Module] = []
    for width_in, width_out in ((5, 7), (7, 6)):
        layers += [nn.Linear(width_in, width_out), *([nn.BatchNorm1d(width_out)] if norm else []), activation()]
    module = prepared(nn.Sequential(*layers, nn.Linear(6, 4)))
    return Network("mlp", module, lambda g: (torch.randn(96, 5, generator=g).double(),), "cross_entropy")


@pytest.mark.parametrize(
    ("activation", "norm", "translations", "diagonal"),
    [
        (nn.ReLU, False, 7, 13),
        (nn.Tanh, False, 7, 0),
        (nn.Identity, False, 7, 13),
        (nn.ReLU, True, 20, 26),
        (nn.GELU, True, 20, 13),
    ],
)
def test_counts_of_the_theory_page(activation: type[nn.Module], norm: bool, translations: int, diagonal: int) -> None:
    network = mlp(activation, norm)
    symmetries = find_symmetries(network.module, network.batch(), network.loss_fn)
    verdict = judge(network, symmetries)
    assert verdict.sound, verdict
    assert symmetries.count()["translation"] == translations, verdict
    assert verdict.equal, verdict
    assert verdict.counted, verdict
    assert verdict.diagonal == diagonal, verdict
    if activation is not nn.Identity:  # there the diagonal is part of the linear pairs
        assert symmetries.count()["scale"] + symmetries.count()["rescale"] == diagonal


def assert_agreement(network: Network) -> None:
    """Soundness, equality of dimensions, independence of what is counted, and every finite transformation."""
    symmetries = find_symmetries(network.module, network.batch(), network.loss_fn)
    verdict = judge(network, symmetries)
    if currently_in_test_context():
        assume(verdict.truth.clear)  # else the oracle itself saw no spectral gap
    assert verdict.truth.clear
    assert verdict.sound, f"false symmetry: {verdict}\n{network!r}"
    assert verdict.equal, f"{verdict}\n{network!r}"
    assert verdict.counted, f"dependent charges: {verdict}\n{network!r}"
    assert_transformations(network, symmetries)


@contextmanager
def norms_with(module: nn.Module, eps: float) -> Iterator[None]:
    """The module with every norm's eps replaced for a while."""
    norms = [part for part in module.modules() if isinstance(getattr(part, "eps", None), float)]
    before = [part.eps for part in norms]
    try:
        for part in norms:
            part.eps = eps
        yield
    finally:
        for part, value in zip(norms, before, strict=True):
            part.eps = value


def assert_transformations(network: Network, symmetries: object, tolerance: float = 1e-12) -> None:
    """Every family's finite transformation, factors from 1e-2 to 1e2, changes what is observed by rounding only."""
    generator = torch.Generator().manual_seed(7)
    randomise(network.module, generator)
    batch = network.batch(7)
    for family in symmetries:  # type: ignore[attr-defined]
        tries = [amounts(family, generator, 2.0)]
        if family.kind in ("scale", "rescale"):
            tries += [torch.tensor(0.01, dtype=torch.float64), torch.tensor(100.0, dtype=torch.float64)]
        for a in tries:
            moved = change(network.module, lambda: network.observed(batch), family, a)
            if moved >= tolerance and family.broken_by:  # a channel of tiny variance shows eps: it must be eps alone
                with norms_with(network.module, 1e-28):
                    moved = change(network.module, lambda: network.observed(batch), family, a)
            assert moved < tolerance, f"{family!r} changes the output by {moved:.1e} at a={a}\n{network!r}"


@settings(max_examples=20, **COMMON)
@given(network=classical_networks())
def test_random_networks(network: Network) -> None:
    assert_agreement(network)


@pytest.mark.slow
@settings(max_examples=300, **COMMON)
@given(network=classical_networks())
def test_many_random_networks(network: Network) -> None:
    assert_agreement(network)
