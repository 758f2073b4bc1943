"""Whatever kills a recording process, the run holds exactly what it had acknowledged, whole, and goes on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.durability import kills
from tests.durability.process import Forge


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_at_each_named_point_of_publication(step: int, forge: Forge, tmp_path: Path) -> None:
    """Short form: each point once, at its last passing: there one single shard is left of a merge.

    Every third point by default, all of them when slow.
    """
    found = kills.points(tmp_path, merged=4)
    names = {point for point, _ in found}
    files = ("tally.txt", "run.json", "start.safetensors", "segment.json", "record", "merged")
    assert names >= {f"{call} {name}" for call in ("write", "fsync", "replace") for name in files}
    assert names >= {"mkdir dry", "mkdir segment", "replace segment", "unlink record", "fsync folder after merged"}
    chosen = [(point, max(n for other, n in found if other == point)) for point in sorted(names) if "dry" not in point]
    chosen = chosen[::step]
    # After one call is before the next; a rename and an unlink are where the difference shows on the disk.
    done = set(
        kills.kill_at_points(forge, tmp_path, chosen, 4, lambda point: (point.startswith(("replace", "unlink")),))
    )
    assert done == {point for point, _ in chosen}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_signals_at_random_moments(forge: Forge, tmp_path: Path, how: signal.Signals) -> None:
    assert kills.counted(kills.random_signals(forge, tmp_path, how, 2)) == 2
