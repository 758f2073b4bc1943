"""Roundings of gradients are no broken symmetry, however small the gradients have become beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import neuralmechanics as nm
from neuralmechanics.experiments import OptimizerConfig, RecordConfig, TrainConfig, train


def cross_entropy(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def followed(loss: bool) -> nm.Run:
    """A classifier each of whose inputs belongs to one sample, classified by margins from 0 to 13.

    Where the gradient is not the loss's own, one of its elements is a hundredth too large.
    """
    margins = torch.arange(14.0)
    head = nn.Linear(14, 3, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.stack([margins, torch.zeros(14), 0.3 * torch.ones(14)]))
    batch = torch.eye(14), torch.zeros(14, dtype=torch.long)
    optimizer = torch.optim.SGD(head.parameters(), lr=1e-3)
    with nm.Monitor(head, optimizer, nm.find_symmetries(head, batch, cross_entropy), every=1) as monitor:
        for _ in range(3):
            optimizer.zero_grad()
            cross_entropy(head, batch).backward()
            if not loss:
                assert head.weight.grad is not None
                head.weight.grad[0, 0] *= 1.01
            optimizer.step()
    return monitor.run


def test_a_sample_that_is_classified_well_leaves_roundings_alone() -> None:
    assert followed(loss=True).warnings == []


@pytest.mark.filterwarnings("ignore::neuralmechanics.monitor.warning.MonitorWarning")
def test_a_break_of_a_hundredth_is_seen_all_the_same() -> None:
    assert [note.subject for note in followed(loss=False).warnings] == ["broken: unseen"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 3])
def test_a_converged_network_with_norms_keeps_its_laws(tmp_path: Path, seed: int) -> None:
    """Biases before norms are moved by roundings alone, and columns of the classifier see few samples."""
    settings = OptimizerConfig(learning_rate=0.1, momentum=0.9, weight_decay=5e-4)
    record = RecordConfig(every=10)
    train(TrainConfig(model="vgg-small-bn", epochs=8, seed=seed, optimizer=settings, record=record), tmp_path / "run")
    assert nm.open_run(tmp_path / "run").warnings == []
