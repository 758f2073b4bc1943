"""Folders to write into: nobody else's while their writer lives, gone after it, whatever became of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neuralmechanics.files import scratch
from neuralmechanics.files.scratch import move_into_place, remove_abandoned, scratch_beside

KILLED = ".partial-12-neuralmechanics-abc"


def left_by_a_killed_writer(parent: Path, number: int = 12) -> Path:
    folder = parent / f".partial-{number}-neuralmechanics-abc"
    (folder / "new" / "deeper").mkdir(parents=True)
    (folder / "new" / "deeper" / "shard").write_bytes(b"half")
    (folder / ".lock").write_text(f"{number} elsewhere")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_made_is_moved_and_nothing_is_left(tmp_path: Path) -> None:
    with scratch_beside(tmp_path / "out") as folder:
        assert folder.parent == tmp_path
        (folder / "new").write_text("whole")
        (folder / "other").mkdir()
        move_into_place(folder / "new", tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out").read_text() == "whole"


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def fill() -> None:
        with scratch_beside(tmp_path / "out") as folder:
            (folder / "new").mkdir()
            (folder / "missing").read_bytes()

    with pytest.raises(FileNotFoundError, match="missing"):
        fill()
    assert names(tmp_path) == []


def test_a_living_writer_keeps_its_folder_and_a_dead_one_does_not(tmp_path: Path) -> None:
    with scratch_beside(tmp_path / "a") as mine:
        dead = left_by_a_killed_writer(tmp_path)
        with scratch_beside(tmp_path / "a") as other:  # of the same process, even
            assert other != mine
            assert mine.is_dir()
            assert not dead.exists()
        assert names(tmp_path) == [mine.name]


def test_names_that_others_may_give_are_left_alone(tmp_path: Path) -> None:
    for name in (".partial-12-download", ".tmp-12-model", ".partial-x-neuralmechanics-a", "neuralmechanics"):
        (tmp_path / name).mkdir()
    before = names(tmp_path)
    remove_abandoned(tmp_path)
    assert names(tmp_path) == before


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("kept")
    (tmp_path / "a").mkdir()
    (left_by_a_killed_writer(tmp_path / "a") / "new" / "link").symlink_to(tmp_path / "kept")
    remove_abandoned(tmp_path / "a")
    assert names(tmp_path / "a") == []
    assert (tmp_path / "kept" / "file").read_text() == "kept"


def test_a_folder_that_was_made_and_no_more_is_removed(tmp_path: Path) -> None:
    (tmp_path / KILLED).mkdir()
    remove_abandoned(tmp_path)
    assert names(tmp_path) == []


def test_without_locks_the_number_of_the_writer_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_locked", lambda handle: False)
    with scratch_beside(tmp_path / "out") as mine:
        elsewhere = left_by_a_killed_writer(tmp_path)  # by a process of another machine: it may live
        ended = left_by_a_killed_writer(tmp_path, 999999999)
        (ended / ".lock").write_text(f"999999999 {scratch.socket.gethostname()}")
        remove_abandoned(tmp_path)
        assert names(tmp_path) == sorted([mine.name, elsewhere.name])


def test_a_folder_that_is_tidied_away_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = scratch.tempfile.mkdtemp, []

    def tidied(**words: str) -> str:
        made.append(make(**words))
        if len(made) == 1:
            remove_abandoned(tmp_path)
        return made[-1]

    monkeypatch.setattr(scratch.tempfile, "mkdtemp", tidied)
    with scratch_beside(tmp_path / "out") as folder:
        assert [str(folder)] == made[1:]
        assert folder.is_dir()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("answer", "stays"),
    [(None, True), (PermissionError, True), (ProcessLookupError, False), (OverflowError, False)],
    ids=["it lives", "it is another user's", "it has ended", "there is no such number"],
)
def test_without_locks_only_a_writer_that_has_ended_is_gone(
    answer: type[Exception] | None, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(number: int, signal: int) -> None:
        if answer is not None:
            raise answer

    monkeypatch.setattr(scratch, "_locked", lambda handle: False)
    monkeypatch.setattr(os, "kill", kill)
    (left_by_a_killed_writer(tmp_path) / ".lock").write_text(f"12 {scratch.socket.gethostname()}")
    remove_abandoned(tmp_path)
    assert names(tmp_path) == ([KILLED] if stays else [])


def test_a_folder_that_is_tidied_away_while_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the lock's file and the lock: what is locked then is a file that is nowhere."""
    lock, calls = scratch._locked, []

    def late(handle: int) -> bool:
        calls.append(handle)
        if len(calls) == 1:
            remove_abandoned(tmp_path)
        return lock(handle)

    monkeypatch.setattr(scratch, "_locked", late)
    with scratch_beside(tmp_path / "out") as folder:
        assert (folder / ".lock").exists()
        assert names(tmp_path) == [folder.name]
    assert names(tmp_path) == []


def test_the_lock_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be removed now is still known as a dead writer's, and the next one removes it."""
    listed, removed = os.listdir, scratch.remove_tree

    def refused(path: Path) -> None:
        if path.name == "new":
            raise OSError("busy")
        removed(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", lambda path: sorted(listed(path)))  # the lock's file stands before the others
        patch.setattr(scratch, "remove_tree", refused)
        with scratch_beside(tmp_path / "out") as folder:
            (folder / "new").mkdir()
    assert names(folder) == [".lock", "new"]
    remove_abandoned(tmp_path)
    assert names(tmp_path) == []
