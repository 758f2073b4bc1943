"""The comparison with the oracle has teeth: each unsound rule put into the table is caught as a false symmetry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import neuralmechanics
from neuralmechanics import find_symmetries
from neuralmechanics.symmetry.lowering.rules.registry import RULES

from ...agreement import judge
from ...blocks import Residual
from ...network import Network, prepared
from .test_classical import assert_agreement


def network(*middle: nn.Module, head: str = "cross_entropy") -> Network:
    module = prepared(nn.Sequential(nn.Linear(4, 5), *middle, nn.Linear(5, 3)))
    return Network("victim", module, lambda g: (torch.randn(96, 4, generator=g).double(),), head)


def _as_relu(domain: Any, node: Any, x: Any, *_: Any, **__: Any) -> Any:
    return domain.homogeneous(x)


def _as_identity(domain: Any, node: Any, x: Any, *_: Any, **__: Any) -> Any:
    return x


def _as_softmax(domain: Any, node: Any, x: Any, *_: Any, **__: Any) -> Any:
    return domain.softmax(x, 1, False)


def _as_normalisation(domain: Any, node: Any, x: Any, *_: Any, **__: Any) -> Any:
    return domain.normalise(x, (0,), True, None)


def _as_cross_entropy(domain: Any, node: Any, x: Any, target: Any, *_: Any, **__: Any) -> Any:
    domain.fix(domain.softmax(x, 1, False))
    return domain.constant(())


INJECTED: dict[str, tuple[str, Callable[..., Any], Callable[[], Network]]] = {
    "tanh is taken for homogeneous": ("aten.tanh", _as_relu, lambda: network(nn.Tanh())),
    "gelu is taken for linear": ("aten.gelu", _as_identity, lambda: network(nn.GELU())),
    "sigmoid forgets common shifts": ("aten.sigmoid", _as_softmax, lambda: network(nn.Sigmoid())),
    "relu forgets scale and shift": ("aten.relu", _as_normalisation, lambda: network(nn.ReLU())),
    "a sum scales with its first summand": (
        "aten.add",
        _as_identity,
        lambda: network(nn.ReLU(), Residual(nn.Sequential(nn.Linear(5, 5), nn.ReLU()))),
    ),
    "a squared error is taken for a cross-entropy": (
        "aten.mse_loss",
        _as_cross_entropy,
        lambda: network(nn.Tanh(), head="mse"),
    ),
}


@pytest.mark.parametrize("name", INJECTED)
def test_an_unsound_rule_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operation, unsound, make = INJECTED[name]
    victim = make()
    assert_agreement(victim)
    monkeypatch.setitem(RULES, operation, unsound)
    verdict = judge(victim, find_symmetries(victim.module, victim.batch(), victim.loss_fn))
    assert not verdict.sound, f"{name}: not caught, {verdict}"
    with pytest.raises(AssertionError, match="false symmetry"):
        assert_agreement(victim)


def test_a_family_that_is_none_is_caught() -> None:
    """The ReLU network's rescale family, held against the same weights with tanh between them."""
    honest, other = network(nn.ReLU()), network(nn.Tanh())
    claimed = neuralmechanics.find_symmetries(honest.module, honest.batch(), honest.loss_fn)
    assert judge(honest, claimed).sound
    assert not judge(other, claimed).sound
