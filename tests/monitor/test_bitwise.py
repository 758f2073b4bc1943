"""A training with and without a monitor is the same to the last bit."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import neuralmechanics as nm

OPTIMISERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "plain": lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=1e-3),
    "heavy_ball": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3, dampening=0.1),
    "nesterov_foreach": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, foreach=True),
    "fused": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "everything": {"residuals": True, "drives": True, "exact_update": True, "every": 1},
}


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    tensors = [*model.state_dict().values(), *(p.grad for p in model.parameters() if p.grad is not None)]
    for state in optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    return [*tensors, torch.get_rng_state()]


@pytest.mark.filterwarnings("ignore::neuralmechanics.monitor.MonitorWarning")
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_bitwise(make: Callable[..., Any], store: Path, optimiser: str, options: str) -> None:
    bare = make("convnet", torch.float32)
    optimizer = OPTIMISERS[optimiser](bare.model.parameters())
    losses = bare.run(optimizer, range(9))
    expected = state_of(bare.model, optimizer)

    watched = make("convnet", torch.float32)
    optimizer = OPTIMISERS[optimiser](watched.model.parameters())
    with nm.Monitor(
        watched.model, optimizer, watched.symmetries, store, strict=True, **{"every": 4, **OPTIONS[options]}
    ) as monitor:
        assert watched.run(optimizer, range(9), lambda _, loss: monitor.log(loss=loss)) == losses
    found = state_of(watched.model, optimizer)
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_finding_nothing_random_and_no_grad_left(make: Callable[..., Any]) -> None:
    training = make("convnet")
    optimizer = training.sgd(momentum=0.9)
    state = torch.get_rng_state()
    with nm.Monitor(training.model, optimizer, training.symmetries, strict=True) as monitor:
        monitor.flush()
    assert torch.equal(state, torch.get_rng_state())
    assert torch.is_grad_enabled()
    assert not optimizer.state


def test_copies_and_pickles_of_a_monitored_model_know_nothing_of_it(make: Callable[..., Any]) -> None:
    training = make("mlp")
    model, optimizer = training.model, training.sgd()
    with nm.Monitor(model, optimizer, training.symmetries, strict=True):
        training.run(optimizer, range(2))
        pickled = pickle.dumps(model)
        assert b"neuralmechanics" not in pickled
        x, _ = training.batch(2)
        for other in (copy.deepcopy(model), pickle.loads(pickled)):
            assert torch.equal(other(x), model(x))
    assert not model._forward_pre_hooks
