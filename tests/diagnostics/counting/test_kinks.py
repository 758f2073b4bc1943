"""Reading linear pieces, choosing inputs that meet many of them, and places where every unit switches."""

from __future__ import annotations

import torch
from torch import nn

from neuralmechanics.diagnostics.counting.linear_pieces import varied
from neuralmechanics.diagnostics.counting.point_moves import fresh_place, loosened
from neuralmechanics.diagnostics.counting.potentials import Potentials
from neuralmechanics.functional.inputs import resample

from .networks import feed_forward, one, relu_network


def test_what_units_read_is_what_hooks_see() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 5), nn.LeakyReLU(), nn.Linear(5, 2))
    potentials = Potentials(model, one(3), None, None, 0)
    many = resample(potentials.batch, potentials.generator, 6)
    read = potentials.read_at_kinks(potentials.origin, many)
    first = potentials.model[0](many).reshape(6, -1)
    second = potentials.model[2](first.relu())
    assert torch.allclose(read, torch.cat([first, second], dim=1), rtol=0, atol=1e-14)


def test_one_input_of_every_pattern_comes_first() -> None:
    generator = torch.Generator().manual_seed(0)
    rare = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    read = torch.cat([torch.ones(500, 2, dtype=torch.float64), rare])
    assert {0, 500, 501, 502} == set(varied(read, 4, generator).tolist())
    assert len(set(varied(read, 503, generator).tolist())) == 503


def test_units_of_a_fresh_place_switch() -> None:
    potentials = Potentials(relu_network([3, 6, 6, 2], True), one(3), None, None, 0)
    many = resample(potentials.batch, potentials.generator, 2000)
    shares = (potentials.read_at_kinks(fresh_place(potentials), many) > 0).double().mean(0)
    assert float((shares - 0.5).abs().max()) < 0.45


def test_smooth_networks_and_given_data_are_left_alone() -> None:
    assert not Potentials(feed_forward(3, 4, nn.GELU()), one(3), None, None, 0).kinked
    assert not Potentials(relu_network([3, 4, 2], True), one(3), None, [torch.ones(1, 3)], 0).kinked


def test_loosening_moves_few_rows_and_prefers_the_loose_ones() -> None:
    potentials = Potentials(relu_network([3, 6, 2], False), one(3), None, None, 0)
    like = fresh_place(potentials)
    loose = torch.zeros_like(like)
    loose[3:6] = 1.0  # the three weights of the second unit
    moved = [(loosened(potentials, like, loose) != like).nonzero().flatten() for _ in range(40)]
    assert sum(4 in places for places in moved) > 35
    assert max(len(places) for places in moved) <= 3 + 6 + 6
