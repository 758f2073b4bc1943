"""The hand-picked networks: no false symmetry, none missed, every continuous symmetry explained."""

from __future__ import annotations

from functools import cache

import pytest

from neuralmechanics import Symmetries, find_symmetries

from .agreement import Verdict, judge
from .network import Network
from .nullspace import moved_parameters
from .pending import DIMENSIONS, FIBRE, FREE
from .test_classical import assert_transformations
from .zoo import SMALL


@cache
def found(name: str) -> tuple[Network, Symmetries]:
    network = SMALL[name]()
    return network, find_symmetries(network.module, network.batch(), network.loss_fn)


@cache
def verdict_of(name: str) -> Verdict:
    return judge(*found(name))


def cases(pending: dict[str, str]) -> list[object]:
    unknown = set(pending) - set(SMALL)
    assert not unknown, f"pending networks that the zoo lacks: {sorted(unknown)}"
    return [
        pytest.param(name, marks=pytest.mark.xfail(reason=pending[name], strict=True)) if name in pending else name
        for name in SMALL
    ]


def test_the_zoo_is_large_enough() -> None:
    assert len(SMALL) >= 45


@pytest.mark.parametrize("name", SMALL)
def test_no_false_symmetry(name: str) -> None:
    verdict = verdict_of(name)
    assert verdict.truth.clear
    assert verdict.sound, verdict
    assert verdict.diagonal <= verdict.truth.multiplicative, verdict
    assert verdict.orbit <= verdict.truth.fibre, verdict


@pytest.mark.parametrize("name", cases(FREE))
def test_what_is_called_free_does_not_move(name: str) -> None:
    """No translation and no diagonal symmetry of the null space moves an element of a free parameter."""
    network, symmetries = found(name)
    free = {c.parameter for c in symmetries.coverage if c.status == "free"}
    assert not free & moved_parameters(network.module, verdict_of(name).truth.moved)


@pytest.mark.parametrize("name", cases(DIMENSIONS))
def test_translations_and_diagonal_symmetries_are_complete(name: str) -> None:
    verdict = verdict_of(name)
    assert verdict.equal, verdict
    assert verdict.counted, verdict


@pytest.mark.parametrize("name", cases(FIBRE))
def test_every_continuous_symmetry_is_explained(name: str) -> None:
    verdict = verdict_of(name)
    assert verdict.orbit == verdict.truth.fibre, verdict


@pytest.mark.parametrize("name", SMALL)
def test_finite_transformations(name: str) -> None:
    assert_transformations(*found(name), tolerance=1e-11)
