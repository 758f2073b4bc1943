"""One error of the disk ends nothing: the record is kept and written with the next, the training stays bitwise."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from tests.durability import disk, faults, training

import neuralmechanics as nm
from neuralmechanics.monitor import MonitorWarning

# Two merges of four records each; `make torture` takes more.
FEW = 7


@pytest.mark.parametrize("kind", faults.KINDS)
def test_every_call_of_a_kind_fails_once(kind: str, tmp_path: Path) -> None:
    failed = list(disk.single_errors(tmp_path, kind, steps=FEW))
    expected = {"create": "record", "write": "tally.txt", "fsync": "merged", "replace": "segment"}
    expected |= {"mkdir": "segment", "unlink": "record"}
    assert f"{kind} {expected[kind]}" in failed


def test_a_disk_that_is_full_for_a_while_loses_nothing(tmp_path: Path) -> None:
    """Whole stretches of failing writes, from each place on; a stretch that reaches the end keeps what was safe."""
    assert len(list(disk.single_errors(tmp_path, "write", length=9))) > 30


def test_what_is_kept_is_said_once_and_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults.install(faults.FailAt("write", 30, 20), monkeypatch)
    with pytest.warns(MonitorWarning) as caught:
        _, _, monitor = training.train(tmp_path / "run", 40, strict=False)
    assert monitor is not None
    assert monitor.failure is None
    (message,) = (str(warning.message) for warning in caught)
    assert "could not be written ([Errno 28] No space left on device); it is kept and tried again" in message
    assert np.array_equal(nm.open_run(tmp_path / "run").data["step"].values, np.arange(41))


def test_a_file_system_that_is_really_full(tmp_path: Path) -> None:
    """A file system of 256 kB, where this machine lets one be mounted."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a file system here")
    try:
        losses, _, _ = training.train(None, 200, monitored=False)
        with pytest.warns(MonitorWarning, match="No space left"):
            mine, _, monitor = training.train(small / "run", 200, strict=False)
        assert mine == losses
        assert monitor is not None
        assert monitor.recorded_step is not None
        run = nm.open_run(small / "run")
        assert run.verify()["sound"].all()
        assert run.data["step"].values[-1] >= monitor.recorded_step > 5
    finally:
        subprocess.run(["umount", small], check=True)
