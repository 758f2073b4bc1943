"""Mistakes of converters: each named by its tensor, on top of an exact conversion that raises no alarm."""

from __future__ import annotations

import pytest

from neuralmechanics.rewrite.comparing import equivalent

from .conversions import MISTAKES

QUICK = ["offset gain folded without its offset", "experts reordered without the router"]


def check(name: str, seed: int) -> None:
    mistake = MISTAKES[name]
    model, batch, before, exact, spoilt = mistake.build(seed)
    assert equivalent(model, batch, before, exact)
    found = equivalent(model, batch, before, spoilt)
    assert not found
    assert found.change > 1e-3
    assert frozenset(found.tensors) in mistake.wrong, str(found)
    assert all(found.gaps[name] > 1e-6 for name in found.tensors)


@pytest.mark.parametrize("name", QUICK)
def test_named(name: str) -> None:
    check(name, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_is_named(name: str, seed: int) -> None:
    check(name, seed)
