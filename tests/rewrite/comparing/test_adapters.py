"""Low-rank adapters: one form for every gauge, and averages of products rather than of factors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neuralmechanics.rewrite.comparing import average_adapters, canonical_adapter


def adapter(seed: int, rank: int = 3) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(8, rank, generator=draw).double(), torch.randn(rank, 6, generator=draw).double()


def test_every_gauge_leads_to_one_pair() -> None:
    up, down = adapter(0)
    mixing = torch.randn(3, 3, generator=torch.Generator().manual_seed(5)).double()
    first = canonical_adapter(up, down)
    second = canonical_adapter(up @ mixing, torch.linalg.inv(mixing) @ down)
    for one, other in zip(first, second, strict=True):
        assert torch.allclose(one, other, atol=1e-12)
    assert torch.allclose(first[0] @ first[1], up @ down, atol=1e-12)
    gram = first[0].mT @ first[0]
    assert torch.allclose(gram, first[1] @ first[1].mT, atol=1e-12)
    assert torch.allclose(gram, torch.diag(torch.linalg.svdvals(up @ down)[:3]), atol=1e-12)


def test_the_average_is_the_best_of_its_rank() -> None:
    """Against the truncated singular value decomposition of the mean product (Eckart & Young)."""
    pairs = [adapter(seed) for seed in range(4)]
    mean = sum((up @ down for up, down in pairs), torch.zeros(8, 6).double()) / 4
    u, s, v = torch.linalg.svd(mean)
    up, down = average_adapters(pairs, rank=2)
    assert torch.allclose(up @ down, u[:, :2] @ torch.diag(s[:2]) @ v[:2], atol=1e-12)
    assert float((mean - up @ down).norm()) == pytest.approx(float(s[2:].norm()))


def test_weights_and_ranks_beyond_the_sum() -> None:
    pairs = [adapter(0, 1), adapter(1, 2)]
    up, down = average_adapters(pairs, rank=5, weights=[2.0, -1.0])
    assert up.shape == (8, 5)
    assert down.shape == (5, 6)
    assert torch.allclose(up @ down, 2 * pairs[0][0] @ pairs[0][1] - pairs[1][0] @ pairs[1][1], atol=1e-12)


def test_unfit_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"adapter 1 has factors of shapes \(8, 2\) and \(3, 6\)"):
        average_adapters([adapter(0), (adapter(0, 2)[0], adapter(0)[1])])
