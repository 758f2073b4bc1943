"""Cases of a long list that every run tries, spread over all of it; the others run where the slow ones do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def one_in(number: int, cases: Iterable[Any]) -> list[Any]:
    """Every `number`-th case as it is, beginning with the first; each other one marked slow, with the marks it has."""
    return [case if not at % number else _slow(case) for at, case in enumerate(cases)]


def by_turns(firsts: Iterable[Any], seconds: Iterable[Any]) -> list[Any]:
    """Every pair of both; each of the first with one of the second as it is, these in turns, the others marked slow."""
    seconds = list(seconds)
    pairs = [(i + j, (a, b)) for i, a in enumerate(firsts) for j, b in enumerate(seconds)]
    return [pair if not place % len(seconds) else _slow(pair) for place, pair in pairs]


def _slow(case: Any) -> Any:
    # A parameter set of pytest has values, marks and an id; anything else is one value, or a tuple of several.
    if hasattr(case, "marks"):
        return pytest.param(*case.values, marks=[*case.marks, pytest.mark.slow], id=case.id)
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
