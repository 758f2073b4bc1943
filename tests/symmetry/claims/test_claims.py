"""Zero false claims: every family of every network leaves outputs and loss unchanged, and ⟨g, ξ⟩ is rounding.

Held in float64 to 1e-9 of the largest entry, at the given and at random parameters, on the given and on other data.
A refusal is right when it gives a reason that is one; an operation listed as unknown claims nothing.
"""

from __future__ import annotations

import pytest

from .entry import CLAIMS
from .failing import FAILING, NOISY
from .held import falsehoods, search

_STRIDE = 12  # one network in twelve by default, all of them under the slow mark


def cases() -> list[object]:
    out = []
    for position, name in enumerate(CLAIMS):
        marks = [pytest.mark.slow] if position % _STRIDE else []
        if name in FAILING:
            marks.append(pytest.mark.xfail(reason="a false claim, or a reason that is none", strict=True))
        out.append(pytest.param(name, marks=marks))
    return out


def test_the_networks_are_many_and_known() -> None:
    assert len(CLAIMS) >= 500
    assert len(CLAIMS) // _STRIDE >= 40
    assert set(CLAIMS) >= FAILING | NOISY


@pytest.mark.parametrize("name", cases())
def test_nothing_false_is_claimed(name: str) -> None:
    claim = CLAIMS[name]
    try:
        symmetries = search(claim)
    except ValueError as refusal:
        if "does not run" in str(refusal):
            pytest.fail(f"the model runs, yet: {refusal}")
        return
    false = falsehoods(claim, symmetries)
    assert not false, "\n".join(map(str, false[:8]))


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.xfail(strict=True, reason="torch prints its graph")) for n in sorted(NOISY)],
)
def test_a_failed_export_prints_nothing(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    search(CLAIMS[name])
    assert "".join(capfd.readouterr()) == ""
