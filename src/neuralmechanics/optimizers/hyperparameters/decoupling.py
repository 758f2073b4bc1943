"""Whether an optimiser's weight decay is apart from its update: θ ← (1-ηλ)θ beside it, told by a trial."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

__all__ = ["decays_apart"]

_RATE, _DECAY = 0.25, 0.5
# Of an optimiser that is made without arguments of its own, or wants other parameters.
_FAILURES = (TypeError, ValueError, RuntimeError, LookupError, AttributeError, ArithmeticError, AssertionError)
_KNOWN: dict[tuple[Any, ...], bool] = {}


def decays_apart(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    """Whether a group's decay multiplies parameters by 1-ηλ whatever the gradient is.

    Torch says so in the group, or by the class. Any other optimiser that decays is tried: made anew over a 2 × 2
    matrix, it takes two steps without gradient, which decay that goes through momentum or a preconditioner makes
    otherwise. One that cannot be made from its group's options is taken to have none. The trial is remembered for
    options that are alike: the same words, and the same numbers zero.

    >>> sgd = torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.9, weight_decay=0.1)
    >>> muon = torch.optim.Muon([torch.zeros(2, 2)], lr=0.1, weight_decay=0.1)
    >>> decays_apart(sgd, sgd.param_groups[0]), decays_apart(muon, muon.param_groups[0])
    (False, True)
    """
    if "decoupled_weight_decay" in group or isinstance(optimizer, (Adam, AdamW)):
        return bool(group.get("decoupled_weight_decay", isinstance(optimizer, AdamW)))
    decay = group.get("weight_decay", 0.0)
    if not isinstance(decay, Tensor) and not decay:
        return False
    options = {key: value for key, value in group.items() if key not in ("params", "lr", "weight_decay", "initial_lr")}
    key = (type(optimizer), *((name, _kind(value)) for name, value in options.items()))
    if key not in _KNOWN:
        _KNOWN[key] = _tried(type(optimizer), options)
    return _KNOWN[key]


def _kind(value: object) -> object:
    """What of an option decides how decay enters: a word itself, of numbers whether they are zero."""
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, (tuple, list)):
        return tuple(map(_kind, value))
    return value != 0 if isinstance(value, (int, float)) else None


def _tried(kind: type[Optimizer], options: Mapping[str, Any]) -> bool:
    accepted = inspect.signature(kind).parameters
    given = {name: value for name, value in options.items() if name in accepted}
    start = torch.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=torch.float64)
    parameter = nn.Parameter(start.clone())
    parameter.grad = torch.zeros_like(start)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            trial = kind([parameter], lr=_RATE, weight_decay=_DECAY, **given)  # type: ignore[call-arg]
            step = inspect.unwrap(kind.step)  # without the hooks that a user may have put on every optimiser
            step(trial)
            # One step would not do: v ← βv + λθ begins at zero, so that decay by way of momentum is -ηλθ there, too.
            once = parameter.detach().clone()
            step(trial)
        except _FAILURES:
            return False
    shrink = 1 - _RATE * _DECAY
    return torch.allclose(once, shrink * start) and torch.allclose(parameter.detach(), shrink**2 * start)
