"""Error tables and exports, against what they are defined to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import neuralmechanics as nm
from neuralmechanics.monitor.reading.errors import error_table
from neuralmechanics.monitor.reading.export import export


@pytest.fixture
def recorded(training: Any) -> nm.Run:
    optimizer = training.sgd(momentum=0.9, weight_decay=1e-3)
    with nm.Monitor(training.model, optimizer, training.symmetries, every=5, strict=True) as monitor:
        training.run(optimizer, range(32), lambda _, loss: monitor.log(loss=loss))
    return monitor.run


def test_errors_are_what_they_are_defined_to_be(recorded: nm.Run) -> None:
    table, kinds, data = recorded.errors(), recorded.errors(by="kind"), recorded.data
    assert list(table.columns) == ["family", "kind", "law", "charges", "max_error", "rms_error", "nonfinite_step"]
    assert list(kinds.columns) == list(table.columns)[1:]
    assert (len(table), len(kinds)) == (len(recorded.symmetries) * 4, 2 * 4)
    assert set(kinds["kind"]) == {"translation", "rescale"}
    for row in [*table.itertuples(), *kinds.itertuples()]:
        family = getattr(row, "family", None)
        chosen = (data["kind"] == row.kind).values & ((data["family"] == family).values | (family is None))
        values = []
        for step in range(1, data.sizes["step"]):
            for charge in np.flatnonzero(chosen):
                difference = (
                    data["predicted"].sel(law=row.law).values[step, charge] - data["charge"].values[step, charge]
                )
                values.append(abs(difference) / data["scale"].values[charge])
        assert row.charges == chosen.sum()
        assert row.max_error == pytest.approx(max(values), rel=1e-12)
        assert row.rms_error == pytest.approx(np.sqrt(np.mean(np.square(values))), rel=1e-12)


def test_scale_is_the_size_of_a_charge_at_the_start(training: Any) -> None:
    params = dict(training.model.named_parameters())
    with nm.Monitor(training.model, training.sgd(), training.symmetries, strict=True) as monitor:
        pass
    scale = monitor.run.data["scale"].values
    assert np.allclose(scale, training.symmetries.charge_scale(params).numpy(), rtol=1e-14)
    assert (scale >= np.abs(monitor.run.data["charge"].values[0])).all()


def test_charges_without_a_size_take_that_of_their_kind(training: Any) -> None:
    training.model[4].bias.data.zero_()
    with nm.Monitor(training.model, training.sgd(), training.symmetries, strict=True) as monitor:
        pass
    data = monitor.run.data
    own = training.symmetries.charge_scale(dict(training.model.named_parameters())).numpy()
    (empty,) = np.flatnonzero(own == 0)
    like = (data["kind"].values == data["kind"].values[empty]) & (own > 0)
    assert data["scale"].values[empty] == pytest.approx(own[like].mean())


def test_a_law_that_runs_away_is_shown_as_infinite(recorded: nm.Run) -> None:
    data = recorded.data.copy(deep=True)
    data["predicted"][{"law": 0, "step": 2, "charge": 0}] = np.inf
    table = error_table(data)
    law = data["law"].values[0]
    family = data["family"].values[0]
    row = table[(table["law"] == law) & (table["family"] == family)].iloc[0]
    assert row["max_error"] == np.inf
    assert row["rms_error"] == np.inf


@pytest.mark.parametrize("suffix", [".nc", ".csv", ".parquet"])
def test_exports_hold_the_numbers(recorded: nm.Run, tmp_path: Path, suffix: str) -> None:
    path = recorded.export(tmp_path / "new" / f"run{suffix}")
    data = recorded.data
    if suffix == ".nc":
        with xr.open_dataset(path) as read:
            assert np.array_equal(read["charge"].values, data["charge"].values)
            assert np.array_equal(
                read["predicted"].sel(law=list(data["law"].values)).values, data["predicted"].values, equal_nan=True
            )
            assert list(read["label"].values) == list(data["label"].values)
        return
    table = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    assert len(table) == data["predicted"].size
    one = table[(table["law"] == "exact") & (table["step"] == 30) & (table["label"] == data["label"].values[3])]
    assert one["measured"].item() == pytest.approx(data["charge"].sel(step=30).values[3], rel=1e-15)
    assert one["predicted"].item() == pytest.approx(data["predicted"].sel(law="exact", step=30).values[3], rel=1e-15)


def test_exports_that_cannot_be_made_say_why(recorded: nm.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"suffix must be one of .nc, .zarr, .parquet, .csv"):
        recorded.export(tmp_path / "run.xlsx")
    monkeypatch.setattr("neuralmechanics.monitor.reading.export._missing", lambda package: True)
    with pytest.raises(ImportError, match="pip install zarr"):
        export(recorded.data, tmp_path / "run.zarr")


def test_no_step_no_error_table_and_no_drives(training: Any) -> None:
    with nm.Monitor(training.model, training.sgd(), training.symmetries, strict=True) as monitor:
        pass
    assert len(monitor.run.errors()) == 0
    with pytest.raises(ValueError, match="drives=True"):
        monitor.run.drive_history()
