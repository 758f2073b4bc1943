"""The oracle itself: it must reproduce the exact counts of the theory page before anything is held against it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from .network import Network, prepared
from .nullspace import brute_force


def mlp(activation: type[nn.Module], norm: bool = False) -> Network:
    layers: list[nn.Module] = []
    for width_in, width_out in ((5, 7), (7, 6)):
        layers.append(nn.Linear(width_in, width_out))
        if norm:
            layers.append(nn.BatchNorm1d(width_out))
        layers.append(activation())
    module = prepared(nn.Sequential(*layers, nn.Linear(6, 4)))
    return Network("mlp", module, lambda g: (torch.randn(96, 5, generator=g).double(),), "cross_entropy")


@pytest.mark.parametrize(
    ("activation", "norm", "expected"),
    [
        (nn.ReLU, False, (118, 7, 13, 20)),
        (nn.Tanh, False, (118, 7, 0, 7)),
        (nn.Identity, False, (118, 7, 13, 100)),
        (nn.ReLU, True, (144, 20, 39, 46)),
        (nn.GELU, True, (144, 20, 26, 33)),
    ],
)
def test_counts_of_the_theory_page(activation: type[nn.Module], norm: bool, expected: tuple[int, ...]) -> None:
    truth = brute_force(mlp(activation, norm))
    assert truth.clear, truth
    assert (truth.parameters, truth.translations, truth.diagonal, truth.fibre) == expected
    assert truth.lone == (13 if norm else 0)


def test_raw_output_has_no_translation() -> None:
    network = mlp(nn.ReLU)
    truth = brute_force(Network("raw", network.module, network.inputs, "output"))
    assert (truth.translations, truth.diagonal, truth.fibre) == (0, 13, 13)


def test_another_seed_agrees() -> None:
    assert brute_force(mlp(nn.ReLU, True), seed=1).diagonal == 39
