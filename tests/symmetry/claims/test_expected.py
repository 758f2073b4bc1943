"""What is claimed is also all: translations and diagonal symmetries against the brute-force null space."""

from __future__ import annotations

import pytest

from ..agreement import judge
from ..network import Network
from .entry import CLAIMS
from .expected import EXPECTED
from .failing import FAILING, SHORT
from .held import search

_STRIDE = 6


def cases() -> list[object]:
    out = []
    for position, name in enumerate(EXPECTED):
        marks = [pytest.mark.slow] if position % _STRIDE else []
        if name in FAILING | SHORT.keys():
            marks.append(pytest.mark.xfail(reason="false or short of the null space", strict=True))
        out.append(pytest.param(name, marks=marks))
    return out


def test_every_expected_network_is_registered() -> None:
    assert set(CLAIMS) >= set(EXPECTED)
    assert set(EXPECTED) >= set(SHORT)


@pytest.mark.parametrize("name", cases())
def test_dimensions_are_those_of_the_null_space(name: str) -> None:
    claim = CLAIMS[name]
    verdict = judge(Network(name, claim.build(), claim.draw), search(claim))
    assert verdict.truth.clear
    assert (verdict.truth.translations - verdict.truth.lone, verdict.truth.multiplicative) == EXPECTED[name]
    assert (verdict.translations, verdict.diagonal) == EXPECTED[name], verdict
    assert verdict.orbit <= verdict.truth.fibre, verdict


@pytest.mark.parametrize("name", SHORT)
def test_what_falls_short_is_true_and_does_fall_short(name: str) -> None:
    claim = CLAIMS[name]
    verdict = judge(Network(name, claim.build(), claim.draw), search(claim))
    assert verdict.sound, verdict
    assert (verdict.translations, verdict.diagonal) == SHORT[name] != EXPECTED[name]
    assert verdict.orbit < verdict.truth.fibre, verdict
