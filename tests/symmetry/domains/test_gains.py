"""Scalings about another point than zero: as many as the null space of scalings and shifts taken together has."""

from __future__ import annotations

import pytest

from ..finding.counted.test_zoo import found, verdict_of
from ..nullspace import affine_diagonal
from ..zoo import SMALL, gains

DISPLACED = {
    "gain-about-one": 5,
    "layer-norm-about-one": 5,
    "gain-subtracted-from-two": 5,
    "gain-about-a-buffer": 5,
    "gain-as-residual": 9,
    "modulation": 4,
    "modulation-by-class": 4,
    "modulation-with-table": 4,
    "spatial-modulation": 3,
    "constant-before-relu": 5,
    "norms-about-one-of-queries-and-keys": 2,
    "gain-about-one-used-twice": 5,
    "gain-about-one-and-zero": 0,
    "gain-about-one-without-reader": 0,
}


def test_all_networks_with_such_gains_are_counted() -> None:
    made = {name for name in SMALL if SMALL[name]().module.__class__.__module__ == gains.__name__}
    assert made == set(DISPLACED)


@pytest.mark.parametrize("name", DISPLACED)
def test_as_many_as_the_null_space_has(name: str) -> None:
    network, symmetries = found(name)
    verdict = verdict_of(name)
    assert int(symmetries.displaced.sum()) == verdict.displaced == DISPLACED[name]
    assert not any(sum(t.displaced) for t in (symmetries.of_kind("linear"), symmetries.of_kind("translation")))
    assert affine_diagonal(network) == verdict.diagonal + verdict.displaced
