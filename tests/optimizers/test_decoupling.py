"""Whether decay is apart from the update is told by the optimiser at hand, not by one that was tried before."""

from __future__ import annotations

import pytest
import torch

from neuralmechanics.optimizers.hyperparameters import decoupling


@pytest.mark.parametrize("order", [(0.0, 0.9, 0.5), (0.9, 0.0, 0.5)])
def test_momentum_that_decay_goes_through(monkeypatch: pytest.MonkeyPatch, order: tuple[float, ...]) -> None:
    """Without momentum θ ← θ - ηλθ is both; with it the decay of a step goes on in the next one."""
    monkeypatch.setattr(decoupling, "_KNOWN", {})
    for momentum in order:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=momentum, weight_decay=0.1)
        assert decoupling.decays_apart(optimizer, optimizer.param_groups[0]) is (momentum == 0.0)


def test_a_group_that_counts_its_steps_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[object, bool] = {}
    monkeypatch.setattr(decoupling, "_KNOWN", known)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.9, weight_decay=0.1)
    for steps in range(1, 5):
        decoupling.decays_apart(optimizer, optimizer.param_groups[0] | {"steps": steps, "betas": (0.1 * steps, 0.0)})
    assert len(known) == 1
