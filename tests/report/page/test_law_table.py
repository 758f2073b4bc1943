"""The table of errors on the page: how dark each number is."""

from __future__ import annotations

import math

import pytest

from neuralmechanics.report.page.law_table import Law, _cell


@pytest.mark.parametrize(
    ("largest", "shade"),
    [
        *((0.0, 0), (1e-15, 0), (9.9e-7, 0), (1.01e-6, 1), (9.9e-5, 1), (1.01e-4, 2), (9.9e-3, 2), (1.01e-2, 3)),
        *((0.99, 3), (1.01, 4), (1e300, 4), (math.inf, 4), (math.nan, 0)),
    ],
)
def test_a_shade_for_every_two_decades_from_a_millionth_on(largest: float, shade: int) -> None:
    cell = _cell(Law("exact", "exact", True), largest, largest / 2)
    assert cell.decade == shade
    assert (cell.largest == "–") == math.isnan(largest)
