"""The budget from checkpoints against the one that was kept at every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.monitor.conftest import make_training
from tests.monitor.explaining.reference import values

import neuralmechanics as nm
from neuralmechanics.monitor import budget_from_checkpoints
from neuralmechanics.optimizers import Sgd

EVERY, STEPS = 100, 600


def trained(
    make: Any, schedule: Any, buffers: dict[int, Any] | None = None, *, every: int = EVERY, steps: int = STEPS
) -> tuple[Any, dict[int, Any], nm.Monitor]:
    """The checkpoints of a training, and its monitor; momentum buffers are put into `buffers`."""
    training = make_training()
    optimizer = make(training.model.parameters())
    kept = {0: values(training)}
    with nm.Monitor(training.model, optimizer, training.symmetries, every=every) as monitor:
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = schedule(step)
            training.run(optimizer, range(step, step + 1))
            if (step + 1) % every == 0:
                kept[step + 1] = values(training)
                if buffers is not None:
                    state = optimizer.state
                    named = training.model.named_parameters()
                    buffers[step + 1] = {n: state[p]["momentum_buffer"].clone() for n, p in named}
    return training.symmetries, kept, monitor


SGD = {
    "plain": {"weight_decay": 1e-3},
    "heavy ball": {"momentum": 0.9, "weight_decay": 5e-4},
    "nesterov": {"momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
    "dampening": {"momentum": 0.8, "dampening": 0.2, "weight_decay": 1e-3},
}


@pytest.mark.parametrize("name", [n if n == "heavy ball" else pytest.param(n, marks=pytest.mark.slow) for n in SGD])
def test_each_part_to_three_percent(name: str) -> None:
    options = SGD[name]

    def schedule(step: int) -> float:
        return 0.05 * (1 + np.cos(np.pi * step / STEPS)) / 2

    symmetries, kept, monitor = trained(lambda p: torch.optim.SGD(p, lr=0.1, **options), schedule)
    sparse = budget_from_checkpoints(symmetries, kept, lambda step: Sgd(schedule(step), **options))
    right = monitor.run.budget()
    assert np.allclose(sparse["change"].sum("part"), sparse["measured"], atol=1e-12)
    for part in ("finite_step", "weight_decay", "momentum_memory"):
        a, b = (d["change"].sel(part=part).sum("step").to_numpy() for d in (sparse, right))
        if not options.get("nesterov"):
            assert np.abs(a - b).sum() <= 0.03 * np.abs(b).sum(), part
        stated = sparse["error"].sel(part=part).to_numpy()
        assert np.abs(a - b).sum() <= 2 * stated.sum() + 1e-12, part


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"momentum": 0.6, "dampening": 0.3}])
def test_with_momentum_buffers_every_interval_is_exact(options: dict[str, Any]) -> None:
    """Without decay and at one rate the two sums of the law leave nothing open, whatever the gradients are."""
    buffers: dict[int, Any] = {}
    symmetries, kept, monitor = trained(
        lambda p: torch.optim.SGD(p, lr=0.1, **options), lambda step: 0.1, buffers, every=25, steps=100
    )
    sparse = budget_from_checkpoints(symmetries, kept, Sgd(0.1, **options), momentum=buffers)
    right = monitor.run.budget()
    quadratic = symmetries.quadratic.numpy()
    for part in ("finite_step", "momentum_memory"):
        a, b = (d["change"].sel(part=part).to_numpy()[:, quadratic] for d in (sparse, right))
        assert np.abs(a - b).max() <= 1e-10 * np.abs(b).max(), part


@pytest.mark.slow
@pytest.mark.parametrize("name", ["heavy ball", "dampening"])
def test_with_momentum_buffers_each_part_of_each_interval_to_three_percent(name: str) -> None:
    options, buffers = SGD[name], {}

    def schedule(step: int) -> float:
        return 0.05 * (1 + np.cos(np.pi * step / STEPS)) / 2

    symmetries, kept, monitor = trained(lambda p: torch.optim.SGD(p, lr=0.1, **options), schedule, buffers)
    sparse = budget_from_checkpoints(symmetries, kept, lambda k: Sgd(schedule(k), **options), momentum=buffers)
    right = monitor.run.budget()
    for part in ("finite_step", "weight_decay", "momentum_memory"):
        a, b = (d["change"].sel(part=part).to_numpy() for d in (sparse, right))
        assert (np.abs(a - b).sum(1) <= 0.03 * np.abs(b).sum(1)).all(), part


def test_a_missing_buffer_is_refused() -> None:
    training = make_training()
    kept = {0: values(training), 5: values(training)}
    with pytest.raises(ValueError, match=r"no momentum buffer of \d\.weight at step 5; give all of them"):
        budget_from_checkpoints(training.symmetries, kept, Sgd(0.1, momentum=0.9), momentum={5: {}})


def test_decoupled_decay_of_an_adaptive_optimiser() -> None:
    symmetries, kept, monitor = trained(lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.05), lambda step: 0.005)
    sparse = budget_from_checkpoints(symmetries, kept, Sgd(0.005, 0.05), adaptive=True)
    right = monitor.run.budget()["change"].sum("step")
    quadratic = symmetries.quadratic.numpy()
    joined = (right.sel(part="finite_step") + right.sel(part="preconditioning")).to_numpy()
    for part, b in (("weight_decay", right.sel(part="weight_decay").to_numpy()), ("preconditioning", joined)):
        a = sparse["change"].sel(part=part).sum("step").to_numpy()
        assert np.abs(a - b)[quadratic].sum() <= 0.03 * np.abs(b)[quadratic].sum(), part


def test_a_single_checkpoint_is_refused() -> None:
    training = make_training()
    with pytest.raises(ValueError, match="at least two steps"):
        budget_from_checkpoints(training.symmetries, {3: values(training)}, Sgd(0.1))
