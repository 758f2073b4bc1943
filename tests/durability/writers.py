"""Two writers of one run: a second one comes at every call that the first one makes, and a fork of it goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.durability import faults, training

import neuralmechanics as nm
from neuralmechanics.monitor import RunBusyError
from neuralmechanics.monitor.store import lock, merging


class _Second:
    """At the n-th call of the first writer the second one opens the run, writes its records, closes it."""

    def __init__(self, path: Path, number: int) -> None:
        self._path, self._left = path, number
        self.steps: list[int] = []
        self.refused = ""
        self.came = False

    def __call__(self, point: str, after: bool) -> None:
        if after or self.came:
            return
        self._left -= 1
        if self._left:
            return
        self.came = True
        try:
            training.session(self._path, 100, 3, self.steps.append)
        except RunBusyError as error:
            self.refused = str(error)


def interleavings(folder: Path) -> Iterator[str]:
    """Every moment at which a second writer can come; yields who was let in."""
    number = 1
    while True:
        path = folder / f"two-{number}"
        second, steps, refused = _Second(path, number), [], ""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lock, "_PATIENCE", 0.0)
            patch.setattr(merging, "MERGED", 4)
            faults.install(second, patch)
            try:
                training.session(path, 0, 5, steps.append)
            except RunBusyError as error:
                refused = str(error)
        if not second.came:
            return
        _require_both(path, [*steps, *second.steps])
        assert not (refused and second.refused), "two writers refused one another"
        yield "second refused" if second.refused else "first refused" if refused else "one after the other"
        shutil.rmtree(path)
        number += 1


def _require_both(path: Path, acknowledged: list[int]) -> None:
    run = nm.open_run(path)
    assert run.verify()["sound"].all()
    found = training.require_true(run)
    # A segment replaces what an earlier one has from its first step on: that is a resume, and nothing is lost by it.
    starts = [int(segment["start_step"]) for segment in run.segments]
    expected = sorted(set(acknowledged)) if starts[-1] == 100 else [s for s in acknowledged if s < 100]
    assert np.array_equal(found, expected)
