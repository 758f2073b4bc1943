"""Room for what is being written beside its place: a folder that is its writer's, and nobody's once it has died.

The folder holds a lock of the operating system, which ends with the process however that ends. What is found without
one was left by a writer that was killed, and is removed.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from neuralmechanics.files.publishing import remove_tree, sync_folder

__all__ = ["NEW", "move_into_place", "remove_abandoned", "scratch_beside"]

NEW = "new"  # what is being made, in the folder; it gets its name when it is moved
_LOCK = ".lock"
_NAME = re.compile(r"\.partial-\d+-neuralmechanics-")  # never a name that another program gives
_TRIES = 16
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)  # disks that have none


@contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """An empty folder on the disk of ``path``, gone when the block ends; first those of killed writers are removed."""
    remove_abandoned(path.parent)
    folder, handle = _claimed(path.parent)
    try:
        yield folder
    finally:
        with suppress(OSError):  # the disk may refuse it; the next writer removes what is left
            _remove(folder)
        os.close(handle)


def move_into_place(made: Path, path: Path) -> None:
    """What was written, and is on the disk, gets its name, durably."""
    os.replace(made, path)
    sync_folder(path.parent)


def remove_abandoned(parent: Path) -> None:
    """Delete the folders in which killed writers left something; those of living ones stay."""
    with suppress(OSError):
        for folder in [found for found in parent.iterdir() if _NAME.match(found.name)]:
            with suppress(OSError):
                _remove_if_abandoned(folder)


def _claimed(parent: Path) -> tuple[Path, int]:
    """A new folder with its lock: again where another writer's tidying came between the two."""
    for _ in range(_TRIES):
        folder = Path(tempfile.mkdtemp(prefix=f".partial-{os.getpid()}-neuralmechanics-", dir=parent))
        try:
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
        except FileNotFoundError:
            continue
        _locked(handle)
        with suppress(OSError):  # read only where there are no locks
            os.write(handle, f"{os.getpid()} {socket.gethostname()}".encode())
        # Between the making of the file and its lock another writer may have taken it for abandoned and removed it: a
        # lock on a file without a name is seen by nobody.
        if os.fstat(handle).st_nlink:
            return folder, handle
        os.close(handle)
    raise OSError(errno.EBUSY, f"no folder to write into can be made in {str(parent)!r}: others remove it")


def _remove_if_abandoned(folder: Path) -> None:
    try:
        handle = os.open(folder / _LOCK, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        os.rmdir(folder)  # made, or emptied, and no more; a writer that has only made it makes another one
        return
    try:
        if _locked(handle) or _writer_is_gone(handle):
            _remove(folder)
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    """Whether the lock could be taken; False, too, where there are none."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        # flock belongs to this opening of the file. A lock by lockf is the process's: another thread's tidying would
        # get it, and it ends when anybody in the process closes the file.
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, *_NO_LOCKS):
            return False
        raise
    return True


def _writer_is_gone(handle: int) -> bool:
    """Where nothing else tells: whether the process that wrote its number is of this machine and has ended.

    One that lives, or lived elsewhere, is never taken for gone; where there are locks a living one holds its own.
    """
    os.lseek(handle, 0, os.SEEK_SET)
    number, _, host = os.read(handle, 256).decode(errors="replace").partition(" ")
    if host != socket.gethostname() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def _remove(folder: Path) -> None:
    """The lock last: until then the folder is somebody's."""
    for name in os.listdir(folder):
        if name != _LOCK:
            remove_tree(folder / name)
    remove_tree(folder)
