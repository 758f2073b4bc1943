"""Shards are verified when a run is opened and read when they are asked for: the same numbers, and damage by name."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import neuralmechanics as nm
from neuralmechanics.monitor import CorruptShardError
from neuralmechanics.monitor.reading import lazy
from neuralmechanics.monitor.store import chain, merging
from neuralmechanics.monitor.store.layout import segments, shards
from neuralmechanics.monitor.store.shards import shard
from neuralmechanics.monitor.store.shards.compact import expanded
from neuralmechanics.monitor.store.shards.pack import pack
from neuralmechanics.monitor.store.shards.shard import read_shard
from neuralmechanics.monitor.store.shards.stored import StoredArrays

WIDTH, RECORDS = 300, 20


@pytest.fixture
def kept(store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of floats in five shards of four records and a single one, of which nothing stays in memory."""
    monkeypatch.setattr(merging, "MERGED", 4)
    monkeypatch.setattr(chain, "_KEPT_BYTES", 0)
    monkeypatch.setattr(lazy, "_KEPT_BYTES", 0)
    recorded(store)
    return store


def recorded(store: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 4))
    x, y = torch.randn(8, 6), torch.randint(4, (8,))
    symmetries = nm.find_symmetries(model, (x, y), lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    with nm.Monitor(model, optimizer, symmetries, store, every=1, residuals=True, strict=True) as monitor:
        for _ in range(RECORDS):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


def test_any_part_of_the_data_is_what_the_shards_hold(kept: Path) -> None:
    """Rows, columns and laws picked in every way, against all shards read and put one after the other."""
    parts = [expanded(read_shard(file.path).arrays) for file in shards(segments(kept)[0])]
    data, chance = nm.open_run(kept).data, np.random.default_rng(0)
    charges, law = data.sizes["charge"], str(data["law"].values[0])
    for name, stored in (("charge", "charge"), ("residual", "residual"), ("predicted", f"predicted/{law}")):
        whole = np.concatenate([part[stored] for part in parts])
        array = data[name].sel(law=law) if name == "predicted" else data[name]
        for rows in (7, -1, slice(3, 17, 5), slice(None, None, -1), chance.integers(0, RECORDS, 9), [], slice(None)):
            for columns in (5, slice(10, 2, -2), chance.integers(0, charges, 4), slice(None)):
                expected = whole[rows][..., columns] if not isinstance(rows, list) else whole[:0][:, columns]
                assert np.array_equal(array.isel(step=rows, charge=columns).values, expected, equal_nan=True)
        points = {"step": ("point", [3, 3, 19]), "charge": ("point", [1, 0, 2])}
        picked = array.isel({dim: xr.DataArray(at, dims=d) for dim, (d, at) in points.items()})
        assert np.array_equal(picked.values, whole[[3, 3, 19], [1, 0, 2]], equal_nan=True)


def test_opening_reads_no_charges_and_one_record_one_shard(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    get = StoredArrays.__getitem__

    def counted(self: StoredArrays, name: str) -> np.ndarray:
        read.append(name)
        return get(self, name)

    run = nm.open_run(kept)
    monkeypatch.setattr(StoredArrays, "__getitem__", counted)
    data = run.data
    assert not {"charge", "residual"} & set(read)
    assert not any(name.startswith(("error/", "predicted/", "budget/")) for name in read)
    read.clear()
    assert data["charge"][6].shape == (data.sizes["charge"],)
    assert not read
    _ = data["charge"][6].values
    assert read == ["charge", "last/charge", "charge"][: len(read)]
    assert set(read) == {"charge", "last/charge"}


def test_a_shard_that_changes_or_goes_after_the_opening_is_named(kept: Path) -> None:
    run = nm.open_run(kept)
    data = run.data
    first, second = (file.path for file in shards(segments(kept)[0])[:2])
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    second.unlink()
    assert np.isfinite(data["charge"][-1].values).all()
    with pytest.raises(CorruptShardError, match=rf"shard segment-0000/{first.name}: array .* does not match"):
        _ = data["charge"][:4].values, data["residual"][:4].values, data["predicted"][:, :4].values, run.budget().load()
    with pytest.raises(CorruptShardError, match=rf"shard segment-0000/{second.name} is gone since the run was opened"):
        _ = data["charge"][5].values


def test_rows_that_were_packed_wrong_are_found_by_verify(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their checksum is right: it is that of the wrong bytes."""

    def wrong(array: np.ndarray[Any, Any]) -> Generator[int, None, np.ndarray[Any, Any]]:
        yield 0
        packed = pack(array).copy()
        packed[8:40] ^= 255  # within the deflated bytes of the leading plane
        return packed

    monkeypatch.setattr(merging, "MERGED", 16)
    with monkeypatch.context() as patched:
        patched.setattr(shard, "packing", wrong)
        recorded(store)
    table = nm.open_run(store).verify()
    assert not table["sound"].all()
    assert set(table[~table["sound"]]["shard"]) <= {f"segment-0000/{s.path.name}" for s in shards(segments(store)[0])}
    assert table[~table["sound"]]["problem"].str.contains("cannot be unpacked").all()


def test_records_of_an_open_run_may_be_merged_while_it_is_read(
    training: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that opened the run before its single shards went has their records all the same."""
    monkeypatch.setattr(merging, "MERGED", 8)
    optimizer = training.sgd()
    with nm.Monitor(training.model, optimizer, training.symmetries, store, every=1, strict=True):
        training.run(optimizer, range(5))
        run = nm.open_run(store)
        training.run(optimizer, range(5, 12))
    assert len(list(store.glob("segment-0000/records-*"))) == 6
    assert list(run.data["step"].values) == list(range(5))
    assert np.array_equal(run.data["charge"].values, nm.open_run(store).data["charge"].values[:5])


def test_merging_piece_by_piece_writes_the_same_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole blocks at once, and in the calls that follow; what is left is merged when the run is closed."""
    monkeypatch.setattr(merging, "MERGED", 10)
    monkeypatch.setattr("time.time", lambda: 0.0)
    recorded(tmp_path / "whole")
    monkeypatch.setattr(merging, "_PIECE_BYTES", 0)
    monkeypatch.setattr(merging, "_PIECE_RECORDS", 1)
    pieces: list[int] = []
    merge = merging.merge_blocks
    monkeypatch.setattr(
        "neuralmechanics.monitor.store.run_store.merge_blocks",
        lambda *given: (pieces.append(1) for _ in merge(*given)),
    )
    recorded(tmp_path / "pieces")
    assert len(pieces) > 20
    whole, split = (nm.open_run(tmp_path / name).data for name in ("whole", "pieces"))
    assert split.drop_vars("time").identical(whole.drop_vars("time").assign_attrs(split.attrs))
    names = [sorted(path.name for path in (tmp_path / n).glob("segment-0000/records-*")) for n in ("whole", "pieces")]
    assert names[0] == names[1]
    assert len(names[0]) == 3
