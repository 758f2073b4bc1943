"""Rows that the data choose, and tokens that nothing reads: counts equal to a brute-force null space."""

from __future__ import annotations

import pytest
import torch
from tests.spread import one_in
from torch import nn

from neuralmechanics import find_symmetries

from ..finding.counted.test_classical import assert_agreement
from ..zoo import SMALL
from ..zoo.tables import TABLES, Read


@pytest.mark.parametrize("name", one_in(3, [name for name in TABLES if name not in SMALL]))
def test_rows_and_positions(name: str) -> None:
    torch.manual_seed(0)
    assert_agreement(TABLES[name]())


@pytest.mark.parametrize("words", [6, 2000])
def test_one_scale_a_row_under_a_norm(words: int) -> None:
    """One charge for each word, however many there are; one for the gain of each channel and the head's column."""
    model = nn.Sequential(nn.Embedding(words, 4), nn.RMSNorm(4), nn.Linear(4, 3))
    count = find_symmetries(model, torch.zeros(8, 5, dtype=torch.long)).count()
    assert count == {"translation": 0, "scale": words, "rescale": 4, "linear": 0}


def test_rows_that_meet_have_one_scale() -> None:
    """A table read past the norm by the sum of its tokens: no row may scale without the others."""
    model = Read(
        lambda m, t: m.h(m.n(m.a(t))) + m.a(t).sum(1, keepdim=True)[..., :3],
        a=nn.Embedding(6, 4), n=nn.RMSNorm(4), h=nn.Linear(4, 3),
    )  # fmt: skip
    symmetries = find_symmetries(model, torch.zeros(8, 5, dtype=torch.long))
    assert symmetries.count()["scale"] == 0
    assert symmetries.count()["rescale"] == 4  # gain and head


def test_padding_row_of_zeros() -> None:
    """No gradient reaches the padding row; as long as it is zero every charge is conserved."""
    model = nn.Sequential(nn.Embedding(6, 4, padding_idx=0), nn.Linear(4, 3)).double()
    tokens = torch.randint(6, (16, 5), generator=torch.Generator().manual_seed(0))
    symmetries = find_symmetries(model, tokens)
    params = dict(model.named_parameters())
    target = torch.randn(16, 5, 3, dtype=torch.float64)
    gradients = torch.autograd.grad((model(tokens) - target).square().mean(), list(params.values()))
    residual = symmetries.pair(dict(zip(params, gradients, strict=True)), {n: p.detach() for n, p in params.items()})
    assert len(residual) == symmetries.count()["linear"] == 10
    assert residual.abs().max() < 1e-14


def test_families_of_a_padded_table_say_what_they_need() -> None:
    """Scalings need the row to be zero; a shift moves what no gradient answers for once the batch takes the row."""
    model = nn.Sequential(nn.Embedding(6, 4, padding_idx=2), nn.Linear(4, 3)).double()
    needed = {f.kind: f.requires for f in find_symmetries(model, torch.zeros(8, 5, dtype=torch.long))}
    assert needed == {
        "linear": ("row 2 of 0.weight (padding) is zero",),
        "affine": ("the batch takes no row 2 of 0.weight (padding)",),
    }
    plain = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 3))
    assert all(f.requires == () for f in find_symmetries(plain, torch.zeros(8, 5, dtype=torch.long)))
