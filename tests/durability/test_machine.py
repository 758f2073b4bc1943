"""Random sequences of record, merge, kill, resume, damage, repair, open and verify, against a list in memory."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.durability import faults, training

import neuralmechanics as nm
from neuralmechanics.monitor import CorruptShardError
from neuralmechanics.monitor.store import merging
from neuralmechanics.monitor.store.layout import START_FILE, all_shards, segments, shards
from neuralmechanics.monitor.store.lock import LOCK_FILE
from neuralmechanics.monitor.store.run_store import RunStore


class _Killed(BaseException):
    """Stands for SIGKILL: it passes every `except Exception`, and the writer is thrown away after it."""


class RunMachine(RuleBasedStateMachine):
    """The model: `kept`, which step's record each segment acknowledged, in order; `broken`, files put out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "run"
        self.writer: RunStore | None = None
        self.kept: list[list[int]] = []
        self.starts: list[int] = []
        self.broken: dict[Path, bytes] = {}
        self.unsaid: set[Path] = set()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(merging, "MERGED", 4)

    @initialize()
    def make(self) -> None:
        self.begin(0)

    def begin(self, start: int) -> None:
        self.writer = RunStore.open(self.path, training.content())
        size = np.ones(len(training.symmetries().labels))
        self.writer.begin_segment(
            {"start_step": start, "continued": True}, {"charge": training.record(start)["charge"][0], "scale": size}
        )
        self.starts.append(start)
        self.kept.append([])

    @precondition(lambda self: self.writer is not None)
    @rule(count=st.integers(1, 6))
    def record(self, count: int) -> None:
        assert self.writer is not None
        for _ in range(count):
            number, start = len(self.kept[-1]), self.starts[-1]
            self.writer.append(number, training.record(start + number))
            self.kept[-1].append(start + number)

    @precondition(lambda self: self.writer is not None)
    @rule()
    def close(self) -> None:
        assert self.writer is not None
        self.writer.close()
        self.writer = None

    @precondition(lambda self: self.writer is not None)
    @rule(at=st.integers(1, 40), after=st.booleans())
    def kill(self, at: int, after: bool) -> None:
        """The writer dies at some call of its next records; the record it was writing may be there or not."""
        assert self.writer is not None
        left = at

        def hand(point: str, late: bool) -> None:
            nonlocal left
            left -= late == after
            if left == 0:
                raise _Killed

        with pytest.MonkeyPatch.context() as patch:
            faults.install(hand, patch)
            with suppress(_Killed):
                self.record(6)
        assert self.writer._lock is not None
        self.writer._lock.abandon()  # what the system does for a process that is no more
        self.writer = None
        # Counted by names: a record may be published in a segment of which other files are damaged or gone.
        published = max((file.last + 1 for file in shards(segments(self.path)[-1])), default=0)
        if published == len(self.kept[-1]) + 1:
            self.unsaid.add(shards(segments(self.path)[-1])[-1].path)
            self.kept[-1].append(self.starts[-1] + len(self.kept[-1]))

    @precondition(lambda self: self.writer is None)
    @rule(back=st.integers(0, 5))
    def resume(self, back: int) -> None:
        last = max((step for step in self.visible()), default=0)
        self.begin(max(0, last - back))

    @precondition(lambda self: not self.broken)
    @rule(choice=st.randoms(use_true_random=False), how=st.sampled_from(["flip", "cut", "delete"]))
    def damage(self, choice: object, how: str) -> None:
        victim = choice.choice(self.alone())  # type: ignore[attr-defined]
        whole = victim.read_bytes()
        if how == "delete":
            victim.unlink()
        else:
            changed = bytearray(whole)
            changed[-1 - choice.randrange(8)] ^= 16  # type: ignore[attr-defined]
            victim.write_bytes(changed if how == "flip" else whole[: len(whole) // 2])
        self.broken[victim] = whole

    def alone(self) -> list[Path]:
        """Files whose loss is a loss: a merge cut off leaves records in two files, a kill one that nothing counts."""
        found = []
        for segment in segments(self.path):
            files = all_shards(segment)
            once = [a for a in files if sum(b.first <= a.last and a.first <= b.last for b in files) == 1]
            found += [segment / START_FILE, *(file.path for file in once if file.path not in self.unsaid)]
        return found

    @precondition(lambda self: self.broken)
    @rule()
    def repair(self) -> None:
        for path, whole in self.broken.items():
            path.write_bytes(whole)
        self.broken.clear()

    def visible(self) -> list[int]:
        """What a reader must see: each segment's records before the first step of any later one that has records."""
        steps: list[int] = []
        for number, kept in enumerate(self.kept):
            later = [s for s, k in zip(self.starts[number + 1 :], self.kept[number + 1 :], strict=True) if k]
            steps += [step for step in kept if step < min(later, default=np.inf)]
        return steps

    @invariant()
    def the_run_is_what_was_acknowledged(self) -> None:
        if not self.kept:
            return
        run = nm.open_run(self.path)
        table = run.verify()
        if self.broken:
            names = {str(path.relative_to(self.path)) for path in self.broken}
            folders = {name.split("/")[0] for name in names}
            bad = set(table.query("not sound")["shard"])
            # A deleted shard is named by its records; a merge may since have left a damaged one's block alone.
            assert bad
            assert {name.split("/")[0] for name in bad} == folders
            with pytest.raises(CorruptShardError):
                _ = run.data
            return
        assert table["sound"].all(), table.query("not sound")["problem"].tolist()
        assert list(training.require_true(run)) == self.visible()
        assert (self.path / LOCK_FILE).exists()

    def teardown(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.patch.undo()
        shutil.rmtree(self.folder)


def test_a_record_published_beside_damage_counts() -> None:
    """A start that is damaged while a record is published, and repaired after the kill."""
    machine = RunMachine()
    machine.make()
    try:
        start = machine.path / "segment-0000" / "start.safetensors"
        machine.broken[start] = start.read_bytes()
        start.write_bytes(b"")
        machine.kill(at=5, after=False)
        machine.the_run_is_what_was_acknowledged()
        machine.repair()
        assert machine.visible() == [0]
        machine.the_run_is_what_was_acknowledged()
    finally:
        machine.teardown()


TestRun = RunMachine.TestCase
TestRun.settings = settings(
    max_examples=40,
    stateful_step_count=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)
