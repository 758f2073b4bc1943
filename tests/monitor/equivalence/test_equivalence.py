"""No optimiser in any situation is followed silently wrongly: some cells of the table, the whole of it when slow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tests.monitor.equivalence.optimizers import ROWS, SGD
from tests.monitor.equivalence.situations import BREAKING, COLUMNS, MEASURED, WRITING
from tests.monitor.equivalence.table import cell, cells

COMPILED = ("compiled model", "compiled step")
QUICK = [column for column in COLUMNS if column not in COMPILED]
# Every row once and every column that compiles nothing at least twice.
FEW = [
    pair
    for number, row in enumerate(ROWS)
    for pair in [(row, next(c for c in QUICK[number % len(QUICK) :] + QUICK if (row, c) in set(cells())))]
]


@pytest.fixture(autouse=True)
def forgetful_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def judge(row: str, column: str) -> None:
    found = cell(row, column)
    assert not found.problems, (row, column, found.problems, found.reasons)
    if row in SGD and column not in ("noisy subclass", "two optimisers"):
        assert (found.withheld > 0) == (column in BREAKING), (row, column, found.reasons)
        assert bool(found.reasons) == (column in BREAKING | WRITING | MEASURED), (row, column, found.reasons)


@pytest.mark.parametrize(("row", "column"), FEW, ids=map(" / ".join, FEW))
def test_some_cells(row: str, column: str) -> None:
    judge(row, column)


REST = [pair for pair in cells() if pair not in FEW]


@pytest.mark.slow
@pytest.mark.parametrize(("row", "column"), REST, ids=map(" / ".join, REST))
def test_the_whole_table(row: str, column: str) -> None:
    judge(row, column)
