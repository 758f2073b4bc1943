"""An operation that is not followed is named, and costs what it must: all that enters it is fixed, nothing else is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neuralmechanics import Symmetries, find_symmetries

from ..zoo import SMALL, refusals


def _found(name: str) -> Symmetries:
    network = SMALL[name]()
    return find_symmetries(network.module, network.batch(), network.loss_fn)


@pytest.mark.parametrize("name", refusals.REFUSED)
def test_the_operation_is_named(name: str) -> None:
    found = _found(name)
    assert {u.operation for u in found.unknown} == {"zoo.bent"}
    ended = [c for c in found.coverage if c.status == "unknown"]
    assert all(c.ended_by.startswith("zoo.bent") for c in ended)


def test_data_may_enter_what_is_not_followed() -> None:
    assert _found("unknown-before-the-first-layer").unknown == ()


def _written_out(x: Tensor) -> Tensor:
    return 2 * torch.tanh(x) + x


@pytest.mark.parametrize("name", refusals.REFUSED)
def test_the_same_operation_written_out_has_the_same_symmetries(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written out, it is followed, and has no symmetry either."""
    behind = {(f.kind, f.name, f.size) for f in _found(name)}
    monkeypatch.setattr(refusals, "bent", _written_out)
    followed = _found(name)
    assert followed.unknown == ()
    assert {(f.kind, f.name, f.size) for f in followed} == behind
