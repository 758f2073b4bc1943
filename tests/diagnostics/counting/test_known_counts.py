"""Counts published for linear and ReLU networks, and of transformer blocks, found without knowing a symmetry."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from neuralmechanics.diagnostics.counting.counting import count_laws
from neuralmechanics.diagnostics.counting.report import LawCount

from .networks import Attention, SwiGLU, cross_entropy, feed_forward, linear_network, one, relu_network


def _blind(model: nn.Module, batch: Any, **settings: Any) -> LawCount:
    count = count_laws(model, batch, symmetries=(), **settings)
    assert count.worst_gap.ratio > 1e4, count
    return count


@pytest.mark.parametrize(
    ("n", "m", "r", "laws"), [(2, 2, 1, 1), (2, 3, 2, 3), (3, 3, 3, 6), (4, 4, 4, 10), (2, 2, 4, 10), (2, 1, 2, 3)]
)
def test_two_linear_layers(n: int, m: int, r: int, laws: int) -> None:
    count = _blind(linear_network(n, r, m), one(n))
    assert count.upper == laws
    # the functions see V U of rank min(n, m, r) only
    k = min(n, m, r)
    assert count.fibre == r * (n + m) - k * (n + m - k)


@pytest.mark.parametrize(
    ("widths", "laws"), [((5, 3, 2), 6), ((3, 4, 2, 4), 13), ((5, 4, 2, 3), 13), ((4, 4, 4, 4), 20)]
)
def test_deep_linear(widths: tuple[int, ...], laws: int) -> None:
    assert _blind(linear_network(*widths), one(widths[0])).upper == laws


def _random_relu(index: int) -> tuple[list[int], bool]:
    chooser = random.Random(index)
    depth = chooser.randint(2, 4)
    return [chooser.randint(2, 9) for _ in range(depth + 1)], bool(index % 2)


@pytest.mark.parametrize("index", range(4))
def test_relu_has_one_law_a_hidden_unit(index: int) -> None:
    widths, bias = _random_relu(index)
    assert _blind(relu_network(widths, bias), one(widths[0])).upper == sum(widths[1:-1])


@pytest.mark.slow
@pytest.mark.parametrize("index", range(4, 50))
def test_relu_campaign(index: int) -> None:
    widths, bias = _random_relu(index)
    count = _blind(relu_network(widths, bias), one(widths[0]))
    assert count.upper == sum(widths[1:-1])


@pytest.mark.parametrize("activation", [nn.GELU(), nn.SiLU(), nn.Tanh()], ids=["gelu", "silu", "tanh"])
@pytest.mark.parametrize("bias", [True, False])
def test_smooth_feed_forward_has_none(activation: nn.Module, bias: bool) -> None:
    assert _blind(feed_forward(4, 6, activation, bias), one(4)).upper == 0


@pytest.mark.parametrize(
    ("build", "shape", "laws"),
    [
        (lambda: SwiGLU(4, 5), (1, 4), 5),
        (lambda: Attention(4, 2, 2), (1, 3, 4), 12),
        (lambda: Attention(6, 2, 3), (1, 3, 6), 24),
        (lambda: nn.Sequential(nn.Linear(4, 3, bias=False), nn.RMSNorm(3, elementwise_affine=False)), (1, 4), 1),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.RMSNorm(3)), (1, 4), 1),
        pytest.param(
            lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.GELU(), nn.Linear(3, 2)),
            (4, 4),
            6,
            marks=pytest.mark.slow,
        ),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)), (4, 4), 9),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.GELU(), nn.Linear(3, 2)), (1, 4), 6),
    ],
    ids=[
        "swiglu",
        "attention 2x2",
        "attention 2x3",
        "rms",
        "rms+bias",
        "batchnorm gelu",
        "batchnorm relu",
        "layernorm",
    ],
)
def test_blocks(build: Callable[[], nn.Module], shape: tuple[int, ...], laws: int) -> None:
    torch.manual_seed(0)
    assert _blind(build(), torch.zeros(shape), norm_eps=0.0).upper == laws


@pytest.mark.parametrize(("bias", "laws"), [(False, 4), (True, 5)])
def test_softmax_layer_has_one_a_column(bias: bool, laws: int) -> None:
    batch = (torch.zeros(3, 4), torch.tensor([0, 1, 2]))
    model = nn.Linear(4, 3, bias=bias)
    assert _blind(model, batch, loss_fn=cross_entropy).upper == laws
    # the logits themselves see every parameter: a squared error keeps nothing
    assert _blind(model, batch[0]).upper == 0


def test_eps_of_a_norm_breaks_its_law_in_proportion() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(4, 3, bias=False)
    smallest = []
    for eps in (1e-7, 1e-8):
        count = _blind(nn.Sequential(linear, nn.RMSNorm(3, eps=eps, elementwise_affine=False)), one(4))
        assert count.upper == 0
        smallest.append(count.gaps[0].kept)
    assert smallest[0] / smallest[1] == pytest.approx(10, rel=0.01)


def test_a_data_set_keeps_more_laws_than_all_data() -> None:
    torch.manual_seed(1)
    model = linear_network(3, 2, 3)
    everything = _blind(model, one(3)).upper
    single = _blind(model, one(3), data=[torch.randn(1, 3)]).upper
    many = _blind(model, one(3), data=[torch.randn(1, 3) for _ in range(6)]).upper
    # of one input x the first layer is seen as the vector U x only: the 4 entries across x stand still too
    assert (everything, many) == (3, 3)
    assert single == 3 + 4
