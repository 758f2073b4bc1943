"""What is made of very many charges some records at a time is what is made of all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import neuralmechanics as nm
from neuralmechanics.monitor.explaining.budget import totals
from neuralmechanics.monitor.explaining.findings.books import books_of
from neuralmechanics.monitor.explaining.forecasting.decaying import _energies
from neuralmechanics.monitor.reading import rows
from neuralmechanics.monitor.reading.errors import error_table, finite_throughout, nonfinite_step
from neuralmechanics.monitor.reading.rows import few, in_blocks, places
from neuralmechanics.report.source import laws

PARTS, INTERVALS, OWNERS = ("finite_step", "weight_decay", "outside"), 11, ("a", "b", "a", "c", "b")


@pytest.fixture(params=[1, 3, 100], ids=["one", "three", "all"])
def at_a_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], int]:
    """Lets as many records of so many charges be worked on at once, and says how many."""

    def take(charges: int) -> int:
        monkeypatch.setattr(rows, "_BLOCK", request.param * charges)
        return int(request.param)

    return take


def budget() -> xr.Dataset:
    draw = np.random.default_rng(0)
    change = draw.normal(size=(len(PARTS), INTERVALS, len(OWNERS)))
    return xr.Dataset(
        {"change": (("part", "step", "charge"), change)},
        coords={
            "part": np.array(PARTS, dtype=object),
            "step": 10 * np.arange(1, INTERVALS + 1),
            "layer": ("charge", np.array(OWNERS, dtype=object)),
        },
    )


def test_every_record_is_read_once(at_a_time: Callable[[int], int]) -> None:
    books = budget()
    size = at_a_time(len(OWNERS))
    blocks = list(in_blocks(books))
    assert [step for block in blocks for step in block["step"].to_numpy()] == books["step"].to_numpy().tolist()
    assert max(block.sizes["step"] for block in blocks) == min(size, INTERVALS)


def test_books_are_sums_with_signs_and_without(at_a_time: Callable[[int], int]) -> None:
    data = budget()
    change = data["change"].to_numpy()
    at_a_time(len(OWNERS))
    books = books_of(data)
    for number, part in enumerate(PARTS):
        assert np.allclose(books.sums[part], change[number].sum(0), rtol=1e-13)
        assert np.allclose(books.gross[part], np.abs(change[number]).sum(0), rtol=1e-13)
        assert list(books.by_layer[part]) == ["a", "b", "c"]
        for layer, found in books.by_layer[part].items():
            mine = np.array(OWNERS) == layer
            assert np.allclose(found, np.abs(change[number][:, mine]).sum(1), rtol=1e-13)


def test_energies_are_of_the_second_half_of_the_steps(at_a_time: Callable[[int], int]) -> None:
    """Of records every 10 steps, those until 80: what the 40 steps behind the first 40 made, a step's share."""
    books = budget()
    records = xr.Dataset(coords={"step": 10 * np.arange(INTERVALS + 1)})
    at_a_time(len(OWNERS))
    assert np.allclose(_energies(books, records, 80), books["change"].to_numpy()[0, 4:8].sum(0) / 40, rtol=1e-13)
    assert np.allclose(_energies(books, records, 10), books["change"].to_numpy()[0, 0] / 10, rtol=1e-13)


def test_the_first_number_that_is_none_is_found(at_a_time: Callable[[int], int]) -> None:
    charge = np.ones((INTERVALS, 4))
    charge[7, 2], charge[9, 1] = np.nan, -np.inf
    data = xr.Dataset({"charge": (("step", "charge"), charge)}, coords={"step": 5 * np.arange(INTERVALS)})
    at_a_time(4)
    assert finite_throughout(data).tolist() == [True, False, False, True]
    assert nonfinite_step(data) == 35
    assert nonfinite_step(data, np.array([True, True, False, False])) == 45
    assert nonfinite_step(data, np.array([True, False, False, True])) is None


@pytest.fixture(scope="module")
def recorded() -> nm.Run:
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    x = torch.randn(8, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    with nm.Monitor(model, optimizer, nm.find_symmetries(model, x), every=2, strict=True) as monitor:
        for _ in range(20):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    return monitor.run


def test_tables_and_laws_of_a_run(recorded: nm.Run, at_a_time: Callable[[int], int]) -> None:
    """With charges that are lost for some records, before and after which some laws do not speak."""
    data = recorded.data.copy(deep=True)
    data["predicted"][{"law": 0, "step": slice(4, None), "charge": 1}] = np.nan
    data["predicted"][{"law": 1}] = np.nan
    data["charge"][{"step": slice(3, 6), "charge": 0}] = np.nan
    data["charge"][{"step": slice(6, None), "charge": 1}] = np.inf

    def told() -> list[Any]:
        books = [recorded.budget(by) for by in ("charge", "layer", "family")]
        tables = [error_table(data), error_table(data, by="kind"), *(totals(one) for one in books)]
        return [laws(data), *tables]

    (known, *whole) = told()
    assert known == [law for k, law in enumerate(data["law"].to_numpy()) if k != 1]
    at_a_time(data.sizes["charge"])
    (again, *split) = told()
    assert again == known
    for one, other in zip(whole, split, strict=True):
        pd.testing.assert_frame_equal(one, other, rtol=1e-12, atol=1e-15)


def test_an_even_choice_has_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten charges with three rows each as many as nine numbers hold: the first, the middle and the last."""
    numbers = np.arange(100, 110)
    assert few(numbers, 3) is numbers
    monkeypatch.setattr(rows, "_HELD", 9)
    assert few(numbers, 3).tolist() == [100, 104, 109]
    assert few(numbers, 1000).tolist() == [100, 109]  # two, however long they are
    assert few(numbers[:3], 3).tolist() == [100, 101, 102]


def test_neighbours_are_a_slice_and_others_are_not() -> None:
    assert places(np.array([False, True, True, False])) == slice(1, 3)
    assert places(np.array([False, False])) == slice(0, 0)
    apart = np.array([True, False, True])
    assert places(apart) is apart
