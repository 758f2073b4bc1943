"""Every kind of damage is named; what is sound is read beside it, and no number is false."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.durability import damage, training

import neuralmechanics as nm
from neuralmechanics.monitor import CorruptShardError, MonitorWarning
from neuralmechanics.monitor.store import merging


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return damage.make_run(tmp_path / "run")


def test_bits_and_truncations_of_every_kind_of_file(run: Path) -> None:
    for path, read in damage.readers(run).items():
        refused, harmless = damage.flips(path, read, stride=61)
        assert refused > 20 * harmless, path.name  # a padding byte of a header, a blank of a JSON text
        assert damage.truncations(path, read, stride=max(1, path.stat().st_size // 30)) >= 30


def test_every_deleted_file_and_folder_is_missed(run: Path) -> None:
    deleted = set(damage.deletions(run))
    assert len(deleted) == len([p for p in run.rglob("*") if p.name != ".lock"])
    assert "tally.txt" in deleted
    assert "segment-0002" in deleted


def test_a_lost_shard_is_named_with_its_records(run: Path) -> None:
    (run / "segment-0000" / "records-00000000-00000003.safetensors").unlink()
    opened = nm.open_run(run)
    with pytest.raises(CorruptShardError, match="segment-0000/records 0 to 3 are missing"):
        _ = opened.data
    assert "1 damaged or missing" in repr(opened)
    assert list(nm.open_run(run, skip_damaged=True).data["step"].values) == list(range(4, 21))


def test_a_shard_in_another_place_is_damage(run: Path, tmp_path: Path) -> None:
    one, other = (run / "segment-0000" / f"records-{n:08d}-{n:08d}.safetensors" for n in (8, 9))
    whole = {path: path.read_bytes() for path in (one, other)}
    other.write_bytes(whole[one])
    with pytest.raises(CorruptShardError, match="it was written as records 8 to 8 of segment-0000"):
        _ = nm.open_run(run).data
    other.write_bytes(whole[other])
    stranger = damage.make_run(tmp_path / "stranger")
    shutil.copy(stranger / "segment-0000" / one.name, one)
    with pytest.raises(CorruptShardError, match="it belongs to another run"):
        _ = nm.open_run(run).data


def test_a_damaged_description_hides_no_record(run: Path) -> None:
    """Every other segment keeps its place; the segment's own shards say where it starts."""
    expected = nm.open_run(run).data
    for number in range(3):
        path = run / f"segment-{number:04d}" / "segment.json"
        whole = path.read_bytes()
        path.write_bytes(whole[:-9])
        with pytest.raises(CorruptShardError, match=r"segment\.json is damaged"):
            _ = nm.open_run(run).data
        data = nm.open_run(run, skip_damaged=True).data
        assert np.array_equal(data["step"], expected["step"])
        assert np.array_equal(data["segment"], expected["segment"])
        path.write_bytes(whole)


def test_a_damaged_start_never_makes_absolute_numbers_look_relative(run: Path) -> None:
    for number in range(3):
        (run / f"segment-{number:04d}" / "start.safetensors").write_bytes(b"")
        if number == 2:
            break
        with pytest.warns(MonitorWarning, match=r"relative to the charges at step (7|12), the start of segment"):
            data = nm.open_run(run, skip_damaged=True).data
        assert (data["scale"] == 1.0).all()  # what a session calls the size of its charges
    opened = nm.open_run(run, skip_damaged=True)
    with pytest.warns(MonitorWarning, match="errors are nan"):
        assert np.isnan(opened.data["scale"]).all()
    table = opened.errors()
    assert len(table)
    assert table[["max_error", "rms_error"]].isna().all(axis=None)


def test_a_damaged_run_is_continued(run: Path) -> None:
    """Old damage neither forbids a resume nor vanishes by it."""
    shard = run / "segment-0001" / "records-00000004-00000004.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    (run / "segment-0000" / "segment.json").unlink()
    (run / "segment-0002" / "records-00000008-00000008.safetensors").unlink()
    (run / "tally.txt").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "MERGED", 4)
        training.session(run, 19, 3)
    opened = nm.open_run(run, skip_damaged=True)
    names = set(opened.verify().query("not sound")["shard"])
    assert f"segment-0001/{shard.name}" in names
    assert "segment-0000/segment.json" in names
    assert list(training.require_true(opened)) == [*range(11), *range(12, 22)]


def test_the_tail_that_the_tally_counts_stays_missing_after_a_resume(run: Path) -> None:
    (run / "segment-0002" / "records-00000008-00000008.safetensors").unlink()
    training.session(run, 19, 3)
    names = set(nm.open_run(run).verify().query("not sound")["shard"])
    assert names == {"segment-0002/records 8 to 8"}


def test_runs_of_format_1_are_read(tmp_path: Path) -> None:
    """A run as the first version wrote it, without tally, links, counts; a gap in its numbers is damage."""
    from neuralmechanics.monitor.store.atomic import publish_json
    from neuralmechanics.monitor.store.shards.shard import write_shard

    run = tmp_path / "old"
    (run / "segment-0000").mkdir(parents=True)
    (run / "segment-0001").mkdir()  # killed before it began
    publish_json(run / "run.json", {"format": 1, **training.content()})
    size = np.ones(len(training.symmetries().labels))
    write_shard(run / "segment-0000" / "start.safetensors", {"charge": size, "scale": size})
    publish_json(run / "segment-0000" / "segment.json", {"start_step": 0, "continued": True})
    for n in range(4):
        write_shard(run / "segment-0000" / f"records-{n:08d}-{n:08d}.safetensors", training.record(n))
    opened = nm.open_run(run)
    assert opened.verify()["sound"].all()
    assert list(training.require_true(opened)) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="it is of format 1, which is only read; give a new folder"):
        training.session(run, 4, 1)
    (run / "segment-0000" / "records-00000001-00000001.safetensors").unlink()
    with pytest.raises(CorruptShardError, match="segment-0000/records 1 to 1 are missing"):
        _ = nm.open_run(run).data
