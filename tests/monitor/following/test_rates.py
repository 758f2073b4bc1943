"""Learning rates side by side: a schedule of all of them is no news, another ratio is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from neuralmechanics.monitor.following.rates import Rates


class Groups:
    """One optimiser whose parameters have rates of their own."""

    def __init__(self, **rates: float) -> None:
        self.of = rates

    def rates(self) -> set[float]:
        return set(self.of.values())

    def settings(self) -> dict[str, SimpleNamespace]:
        return {name: SimpleNamespace(learning_rate=rate) for name, rate in self.of.items()}


def test_ratios_are_new_where_one_changes_and_not_where_all_do() -> None:
    groups = Groups(a=0.1, b=0.3)
    rates = Rates([groups])  # type: ignore[list-item]
    assert rates.begin()
    assert (rates.of, rates.largest) == ({"a": 0.1, "b": 0.3}, 0.3)
    assert not rates.begin()
    for factor in (0.5, 1 / 3, 7.0):
        groups.of = {name: factor * rate for name, rate in groups.of.items()}
        assert not rates.begin()
        assert rates.largest == pytest.approx(groups.of["b"])
    groups.of["a"] *= 1.01
    assert rates.begin()
    groups.of["a"] = groups.of["b"]
    assert rates.begin()  # they have become equal
    assert not rates.begin()


def test_rates_that_are_all_alike_are_never_news() -> None:
    groups = Groups(a=0.1, b=0.1)
    rates = Rates([groups])  # type: ignore[list-item]
    assert not rates.begin()
    groups.of = {"a": 0.01, "b": 0.01}
    assert not rates.begin()
