"""Publishing a file: it is either absent or complete and on the disk, whatever kills the process.

Everything that the package keeps is written through this module, in one order: write, fsync, replace, fsync of the
folder. Until the last of them has returned nothing is acknowledged.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = [
    "is_leftover",
    "make_folder",
    "publish",
    "publish_folder",
    "publishing",
    "remove_leftovers",
    "remove_tree",
    "sync_folder",
    "write_all",
]

_TEMPORARY, _PARTIAL = ".tmp-", ".partial-"
_LEFTOVER = re.compile(r"\.(tmp|partial)-\d+-")


def publish(path: Path, content: bytes) -> None:
    """Write, fsync, rename, fsync the folder: after the return the file survives a kill and a power cut."""
    with publishing(path) as handle:
        write_all(handle, content)


@contextmanager
def publishing(path: Path) -> Iterator[int]:
    """A handle to write to; what was written becomes the file at `path` when the block ends, or nothing does."""
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    # As any new file: the umask decides who may read it, where mkstemp would shut out everybody else for good.
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        try:
            yield handle
            # The disk may get the new name before the content: after a power cut an empty file would bear it.
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
    except BaseException:
        # The disk may refuse this as well; the next opening removes what is left.
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def write_all(handle: int, content: bytes | bytearray | memoryview) -> None:
    """Every byte of `content`: a single write may take a part of it."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; a system without folder handles (Windows) has nothing to sync."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each of them durable, up to the first that existed."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    # Another process may make it between the question above and here.
    with suppress(FileExistsError):
        os.mkdir(folder)
    sync_folder(folder.parent)


def publish_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """A folder with what `fill` puts into it: absent or complete. Nothing may be at `path` yet."""
    partial = path.with_name(f"{_PARTIAL}{os.getpid()}-{path.name}")
    # Numbers of processes come again: one that was killed long ago may have had this one.
    remove_tree(partial)
    os.mkdir(partial)
    try:
        fill(partial)
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            remove_tree(partial)
        raise
    sync_folder(path.parent)


def is_leftover(path: Path) -> bool:
    """Whether a name is one that a killed writer leaves behind: it never was part of anything published."""
    return _LEFTOVER.match(path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed writer left half-written in a folder; what cannot be deleted is in nobody's way."""
    with suppress(OSError):
        for leftover in filter(is_leftover, list(folder.iterdir())):
            with suppress(OSError):
                remove_tree(leftover)


def remove_tree(path: Path) -> None:
    """Delete a file, or a folder with all that is in it; links are not followed."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        os.unlink(path)
        return
    for name in os.listdir(path):
        remove_tree(path / name)
    os.rmdir(path)
