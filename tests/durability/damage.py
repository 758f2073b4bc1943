"""Damage: every bit, every truncation, every deleted file and folder of a run. Each is named, or changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.durability import training

import neuralmechanics as nm
from neuralmechanics.monitor import CorruptShardError
from neuralmechanics.monitor.store import merging, run_store
from neuralmechanics.monitor.store.layout import read_run_file
from neuralmechanics.monitor.store.lock import LOCK_FILE
from neuralmechanics.monitor.store.shards.shard import read_shard
from neuralmechanics.monitor.store.tally import read_tally


def make_run(path: Path) -> Path:
    """Three segments, merged and single shards, the second resumed in the middle of the first; steps 0 to 20."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "MERGED", 4)
        for first, count in ((0, 10), (7, 6), (12, 9)):
            training.session(path, first, count)
    return path


def flips(path: Path, read: Callable[[], Any], stride: int = 1) -> tuple[int, int]:
    """Flip every `stride`-th bit of a file: how many were refused, and how many read as before."""
    whole, before = path.read_bytes(), read()
    refused = harmless = 0
    bits = range(0, 8 * len(whole), stride)
    for bit in bits:
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            found = read()
        except ValueError as error:
            refused += "\n" not in str(error)
        else:
            assert _same(found, before), f"bit {bit} of {path.name} was read as something else"
            harmless += 1
    path.write_bytes(whole)
    assert refused + harmless == len(bits), "a message of more than one line"
    return refused, harmless


def truncations(path: Path, read: Callable[[], Any], stride: int = 1) -> int:
    """Cut a file at every `stride`-th length; each must be refused."""
    whole = path.read_bytes()
    lengths = range(0, len(whole), stride)
    for length in lengths:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError):
            read()
    path.write_bytes(whole)
    return len(lengths)


def readers(path: Path) -> dict[Path, Callable[[], Any]]:
    """One file of each kind in a run, and what reads it."""
    segment = path / "segment-0000"
    merged, single = sorted(segment.glob("records-*"))[0], sorted(segment.glob("records-*"))[-1]
    return {
        path / "run.json": lambda: read_run_file(path),
        path / "tally.txt": lambda: read_tally(path),
        segment / "segment.json": lambda: run_store.read_json(segment / "segment.json"),
        segment / "start.safetensors": lambda: read_shard(segment / "start.safetensors").arrays,
        single: lambda: read_shard(single).arrays,
        merged: lambda: read_shard(merged).arrays,
    }


def deletions(path: Path) -> Iterator[str]:
    """Delete each file, then each folder of a segment; yields what was deleted and found missing."""
    expected = nm.open_run(path).data
    files = [p for p in path.rglob("*") if p.is_file() and p.name != LOCK_FILE]
    for victim in [*files, *path.glob("segment-*")]:
        name = str(victim.relative_to(path))
        aside = path.with_name("aside")
        victim.rename(aside)
        if victim.name == "run.json":
            with pytest.raises(ValueError, match=r"no run.json in it, though segment-0000 is there"):
                nm.open_run(path)
        else:
            _require_named(path, name, expected)
        aside.rename(victim)
        yield name
    assert nm.open_run(path).data.identical(expected)


def _require_named(path: Path, name: str, expected: Any) -> None:
    run = nm.open_run(path)
    with pytest.raises(CorruptShardError):
        _ = run.data
    assert not run.verify()["sound"].all(), name
    problems = " ".join(run.verify().query("not sound")["problem"])
    words = {"records": f"{name.split('/')[0]}/records"}
    assert words.get(Path(name).name.split("-")[0], name) in problems, (name, problems)
    rest = nm.open_run(path, skip_damaged=True)
    if name in ("segment-0000/start.safetensors", "segment-0000"):
        with pytest.warns(nm.monitor.MonitorWarning, match="start are damaged"):
            data = rest.data
    else:
        data = rest.data
    for step in data["step"].values:
        assert np.array_equal(data["charge"].sel(step=step), training.record(int(step))["charge"][0])
    if ("records" not in name and not name.startswith("segment-000")) or name.endswith((".json", ".txt")):
        assert np.array_equal(data["step"], expected["step"])


def _same(found: Any, before: Any) -> bool:
    if not isinstance(before, dict) or not all(isinstance(v, np.ndarray) for v in before.values()):
        return bool(found == before)
    return found.keys() == before.keys() and all(
        found[k].dtype == v.dtype and found[k].shape == v.shape and found[k].tobytes() == v.tobytes()
        for k, v in before.items()
    )


def copy(path: Path, name: str) -> Path:
    """The run again, in a folder beside it."""
    return Path(shutil.copytree(path, path.with_name(name)))
