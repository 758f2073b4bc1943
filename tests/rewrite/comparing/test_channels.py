"""Assignments with more signs than can be tried together: read off, exact for channels that are alike up to signs."""

from __future__ import annotations

import pytest
import torch

from neuralmechanics.rewrite.comparing.parts.channels import match_channels
from neuralmechanics.symmetry.families.spaces import Direction


@pytest.mark.parametrize("seed", range(4))
def test_many_signs_are_found(seed: int) -> None:
    """Twelve directions that flip thirty blocks of rows in any combination, and a permutation of six channels."""
    draw = torch.Generator().manual_seed(seed)
    exponents = torch.randint(2, (30, 12), generator=draw).tolist()
    directions = [Direction("sign", tuple(column)) for column in torch.tensor(exponents).double().T.tolist()]
    order = torch.randperm(6, generator=draw)
    factors = torch.where(torch.randn(12, 6, generator=draw) < 0, -1.0, 1.0).double()
    pairs = []
    for powers in exponents:
        given = torch.randn(6, 3, generator=draw, dtype=torch.float64)
        sign = torch.stack([factors[d] for d in range(12) if powers[d]] or [torch.ones(6).double()]).prod(0)
        pairs.append((given[order] * sign[:, None], given))
    found = match_channels(pairs, [tuple(map(float, p)) for p in exponents], directions)
    assert torch.equal(found.permutation, order)
    assert found.cost < 1e-10
