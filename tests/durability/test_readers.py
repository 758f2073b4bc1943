"""A reader beside the writer sees a whole state, always."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.durability import faults, readers, training
from tests.durability.process import Forge

import neuralmechanics as nm
from neuralmechanics.monitor.store import merging


@pytest.mark.parametrize("reads", [8, pytest.param(25, marks=pytest.mark.slow)])
def test_reads_beside_a_writer(reads: int, forge: Forge, tmp_path: Path) -> None:
    assert readers.beside_a_writer(forge, tmp_path / "run", reads) == reads


def test_a_read_at_every_moment_of_a_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each call of a writer that merges: a reader sees every record acknowledged, and nothing damaged."""
    path, safe, reads = tmp_path / "run", [], []

    def read(point: str, after: bool) -> None:
        if (path / "run.json").exists():
            run = nm.open_run(path)
            assert run.verify()["sound"].all(), point
            steps = training.require_true(run)
            assert np.array_equal(steps, np.arange(len(steps)))
            assert len(steps) >= len(safe), point
            reads.append(len(steps))

    monkeypatch.setattr(merging, "MERGED", 4)
    faults.install(read, monkeypatch)
    training.session(path, 0, 9, safe.append)
    assert reads[-1] == 9
    assert len(reads) > 100


def test_a_listing_that_misses_a_merge_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of a folder are not read at one moment: a single shard is gone before, the merged one comes after."""
    from neuralmechanics.monitor.store import chain

    training.session(tmp_path / "run", 0, 10)
    whole, looks = chain.shards, []

    def torn(folder: Path) -> list[object]:
        looks.append(folder)
        return [shard for shard in whole(folder) if len(looks) > 1 or not 2 <= shard.first < 5]

    monkeypatch.setattr(chain, "shards", torn)
    assert list(training.require_true(nm.open_run(tmp_path / "run"))) == list(range(10))
    assert len(looks) == 2
