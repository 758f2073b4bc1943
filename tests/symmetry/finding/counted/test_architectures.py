"""Whole architectures with random weights: every family's finite transformation leaves the loss unchanged."""

from __future__ import annotations

import pytest
import torch
from tests.spread import one_in

from neuralmechanics import find_symmetries

from ...agreement import amounts, change
from ...pending import ARCHITECTURES
from ...precision import DoublePrecision
from ...zoo import FULL


def cases() -> list[object]:
    unknown = set(ARCHITECTURES) - set(FULL)
    assert not unknown, f"pending architectures that the zoo lacks: {sorted(unknown)}"
    return [
        pytest.param(name, marks=pytest.mark.xfail(reason=ARCHITECTURES[name], strict=True))
        if name in ARCHITECTURES
        else name
        for name in FULL
    ]


@pytest.mark.parametrize("name", one_in(2, cases()))
def test_finite_transformations(name: str) -> None:
    module, batch, loss_fn = FULL[name]()
    symmetries = find_symmetries(module, batch, loss_fn)
    assert len(symmetries), f"nothing found in {name}: {symmetries.unknown}"
    assert not symmetries.unknown, symmetries.unknown
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():  # away from zero biases and unit norms, near the initial size of the weights
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    for family in symmetries:
        with DoublePrecision():
            moved = change(module, lambda: loss_fn(module, batch), family, amounts(family, generator, 1.0))
        assert moved < 1e-10, f"{family!r} changes the loss by {moved:.1e}"
