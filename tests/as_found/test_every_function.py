"""No public function leaves a trace in a model, its caches or the random states."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neuralmechanics as nm
from neuralmechanics import experiments, flows
from neuralmechanics.symmetry import Symmetries, measure_breaking
from neuralmechanics.symmetry.as_found import EmptiedCacheWarning
from tests.as_found import awkward
from tests.as_found.awkward import MODELS
from tests.as_found.record import random_states, record

Batch = tuple[Tensor, Tensor]


def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def given(model: nn.Module) -> Symmetries:
    """Symmetries of the same parameters that a function is handed, found from a plain network of those names."""
    plain = nn.Sequential()
    plain.a, plain.b = nn.Linear(3, 4), nn.Linear(4, 2)  # type: ignore[assignment]
    return nm.find_symmetries(plain, torch.zeros(5, 3), lambda m, x: (m.b(torch.relu(m.a(x)))).square().mean())


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def watch(model: nn.Module, batch: Batch) -> object:
    optimizer = sgd(model.parameters())
    symmetries = nm.find_symmetries(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), batch[0])
    named = {"0": "a", "2": "b"}
    found = symmetries.to_dict()
    text = repr(found)
    assert named and text
    return optimizer


CALLS: dict[str, Callable[[nn.Module, Batch], Any]] = {
    "find_symmetries": lambda m, b: nm.find_symmetries(m, b, loss_fn),
    "check_symmetries": lambda m, b: nm.check_symmetries([], m, loss_fn, [b, b]),
    "assert_symmetric": lambda m, b: nm.assert_symmetric(m, loss_fn, [b], expect={}),
    "probe_symmetries": lambda m, b: nm.probe_symmetries(m, loss_fn, [b]),
    "count_laws": lambda m, b: nm.count_laws(m, b, loss_fn, point="model", max_level=1),
    "lint": lambda m, b: nm.lint(m, b, loss_fn, sgd(m.parameters())),
    "update_defect": lambda m, b: nm.update_defect(sgd, m, loss_fn, [b, b], nm.find_symmetries(m, b, loss_fn)),
    "symmetry.measure_breaking": lambda m, b: measure_breaking(nm.find_symmetries(m, b, loss_fn), m, loss_fn, b),
    "flows.module_loss": lambda m, b: _flown(flows.module_loss(m, loss_fn, b)),
    "flows.ModuleLoss": lambda m, b: _flown(flows.ModuleLoss(m, loss_fn, b)),
    "flows.module_losses": lambda m, b: flows.module_losses(m, loss_fn, [b, b]),
    "experiments.evaluate": lambda m, b: experiments.evaluate(m, [(b[0], torch.zeros(len(b[0]), dtype=torch.long))]),
    "experiments.top_eigenvalues": lambda m, b: experiments.top_eigenvalues(
        lambda: loss_fn(m, b), [p for p in m.parameters() if p.requires_grad], 1
    ),
}


def _flown(loss: flows.ModuleLoss) -> Tensor:
    start = {name: p.requires_grad_() for name, p in loss.theta0.items()}
    (gradient, *_) = torch.autograd.grad(loss(start), list(start.values()), create_graph=True)
    torch.autograd.grad(gradient.sum(), list(start.values()), allow_unused=True)
    return loss(start)


@contextlib.contextmanager
def emptied(name: str) -> Iterator[None]:
    """The one cache that may be emptied, with a warning that names it."""
    if name != "lru_cache":
        yield
        return
    with pytest.warns(EmptiedCacheWarning, match="remembered_mask"):
        yield


def prepared(name: str) -> tuple[nn.Module, Batch]:
    awkward.remembered_mask.cache_clear()
    awkward.GLOBAL_MASKS.clear()
    model = MODELS[name]()
    model.get_parameter(next(n for n, p in model.named_parameters() if p.requires_grad)).grad = None
    last = list(model.parameters())[-1]
    last.grad = torch.ones_like(last)
    return model, (torch.randn(5, 3), torch.randn(5, 2))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("call", CALLS)
def test_left_as_found(name: str, call: str) -> None:
    model, batch = prepared(name)
    before, states, globals_before = record(model), random_states(), dict(awkward.GLOBAL_MASKS)
    batch_before = record(batch)
    CALLS[call](model, batch)
    assert record(model) == before
    assert random_states() == states
    assert record(batch) == batch_before
