"""Steps are accepted entry by entry: what is small is followed as closely, in its own units, as what is large."""

from __future__ import annotations

import math

import pytest
import torch

from neuralmechanics.flows import GradientFlow, integrate
from neuralmechanics.flows.integration.dormand_prince import _Step


def test_the_score_is_the_root_mean_square_of_errors_in_their_own_units() -> None:
    scales = [1e-12 + 1e-8 * 2e6, 1e-12 + 1e-8 * 3e-6, 1e-12]
    errors = [1.0, 1e-9, 1e-12]
    expected = math.sqrt(sum((e / s) ** 2 for e, s in zip(errors, scales, strict=True)) / 3)
    error, scale = torch.tensor([errors, scales], dtype=torch.float64)
    assert _Step(error, [], error, 0.0, 0.0).score(scale) == pytest.approx(expected, rel=1e-12)


def test_entries_of_very_different_size_are_all_followed() -> None:
    """θ' = -cθ from 1e8 and from 1e-8, the small one the faster: both to the tolerance, in units of their own."""
    start = {name: torch.tensor([size], dtype=torch.float64) for name, size in (("large", 1e8), ("small", 1e-8))}

    def loss(p: dict[str, torch.Tensor]) -> torch.Tensor:
        return 0.1 * p["large"].square().sum() / 2 + 5 * p["small"].square().sum() / 2

    path = integrate(GradientFlow(loss), start, [0.0, 1.0], method="dopri5", rtol=1e-9, atol=1e-18)
    for name, rate in (("large", 0.1), ("small", 5.0)):
        expected = float(start[name]) * math.exp(-rate)
        assert float(path.final[name]) == pytest.approx(expected, rel=1e-7)
