"""The source revision of a run is the one of the folder it is started in."""

from __future__ import annotations

import subprocess
from pathlib import Path

from neuralmechanics.monitor.following.provenance import source_revision


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    answer = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def test_the_revision_and_whether_a_file_of_it_was_changed(tmp_path: Path) -> None:
    assert source_revision(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert source_revision(tmp_path) is None  # there is no revision yet
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "one")
    revision = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "another").write_text("of which git knows nothing")
    (tmp_path / "folder").mkdir()
    assert source_revision(tmp_path / "folder") == {"revision": revision, "modified": False}
    (tmp_path / "file").write_text("two")
    assert source_revision(tmp_path) == {"revision": revision, "modified": True}
