"""Zero false claims about networks that nobody wrote: the same measure on random programs, each fixed by its number."""

from __future__ import annotations

import pytest

from .failing import FAILING_SEEDS
from .generated import STEPS, generated
from .held import evaluate, falsehoods, search

_MANY, _DEFAULT = 300, 8


def seeds() -> list[object]:
    out = []
    for seed in range(_MANY):
        marks = [pytest.mark.slow] if seed >= _DEFAULT else []
        if seed in FAILING_SEEDS:
            marks.append(pytest.mark.xfail(reason="a false claim, or a reason that is none", strict=True))
        out.append(pytest.param(seed, marks=marks))
    return out


def test_every_step_is_drawn() -> None:
    names = [generated(seed).name for seed in range(_MANY)]
    assert all(any(f" {step}(" in name for name in names) for step in STEPS)


@pytest.mark.parametrize("seed", seeds())
def test_nothing_false_is_claimed(seed: int) -> None:
    claim = generated(seed)
    assert evaluate(claim, {}, claim.batch())[1].isfinite().all(), claim.name
    try:
        symmetries = search(claim)
    except ValueError as refusal:
        if "does not run" in str(refusal):
            pytest.fail(f"{claim.name} runs, yet: {refusal}")
        return
    false = falsehoods(claim, symmetries)
    assert not false, "\n".join([claim.name, *map(str, false[:8])])
