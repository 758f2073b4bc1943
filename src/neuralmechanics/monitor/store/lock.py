"""One writer a run: a lock of the operating system, which dies with the process that holds it."""

from __future__ import annotations

import errno
import os
import socket
import time
import weakref
from contextlib import suppress
from pathlib import Path

from neuralmechanics.monitor.warning import announce

LOCK_FILE = ".lock"

# How long opening a run may take, and the way from locking the file to writing one's number into it.
_PATIENCE = 0.25
_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()


class RunBusyError(ValueError):
    """A run that another writer has open. The message names the run and the writer's process number."""


class WriterLock:
    """The right to write into a run's folder, held until `release`, or until the process ends however it ends.

    Raises `RunBusyError` where somebody else holds it. A process made by fork does not inherit it.
    """

    def __init__(self, folder: Path, file: str = LOCK_FILE) -> None:
        self._folder = folder
        self._file = file
        self._owner = os.getpid()
        self._handle = _locked(folder, file)
        self._close = weakref.finalize(self, os.close, self._handle)
        # The number is for the message to whoever is refused; a full disk does not take the lock away.
        with suppress(OSError):
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"{self._owner} {socket.gethostname()}\n".encode(), 0)
        _held.add(self)

    def require(self) -> None:
        """`RunBusyError` in a forked process, or where the lock file was taken away and another writer may be in."""
        if os.getpid() != self._owner:
            raise RunBusyError(
                f"the run in {self._folder} is written by process {self._owner}, of which this process "
                f"({os.getpid()}) is a fork; give it a Monitor with a folder of its own"
            )
        here = os.fstat(self._handle)
        try:
            there = os.stat(self._folder / self._file)
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            raise RunBusyError(
                f"the file {self._file} of the run in {self._folder} was removed or replaced while process "
                f"{self._owner} wrote the run; another writer may be in it: leave that file alone"
            )

    def release(self) -> None:
        """Let others write."""
        if self._close.alive and os.getpid() == self._owner:
            with suppress(OSError):
                os.ftruncate(self._handle, 0)
        self.abandon()

    def abandon(self) -> None:
        """Let go of the open file, and of nothing else: a process made by fork shares the lock itself."""
        self._close()


def _locked(folder: Path, file: str) -> int:
    path = folder / file
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        _lock(handle, folder)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _lock(handle: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:
        announce(f"this system has no file locks: nothing keeps a second writer out of the run in {folder}")
        return
    # Somebody may hold the lock for the moment that opening a run takes.
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                announce(f"{folder} lies on a disk without locks: nothing keeps a second writer out of the run there")
                return
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            if time.monotonic() > deadline:
                raise RunBusyError(
                    f"the run in {folder} is being written by {_holder(handle)}; wait until that has ended, end it, "
                    "or give another folder"
                ) from None
            time.sleep(0.01)
        else:
            return


def _holder(handle: int) -> str:
    deadline = time.monotonic() + _PATIENCE
    while True:
        number, _, host = os.pread(handle, 256, 0).decode(errors="replace").strip().partition(" ")
        here = host == socket.gethostname()
        # The number of an earlier holder stands there until the new one has written its own.
        if number.isdigit() and (not here or _alive(int(number))):
            return f"process {number}{_whose(int(number), host)}"
        if time.monotonic() > deadline:
            return "another process, which left no number"
        time.sleep(0.01)


def _whose(process: int, host: str) -> str:
    if host != socket.gethostname():
        return f" on {host}"
    return " (this one)" if process == os.getpid() else ""


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _let_go() -> None:
    # The lock belongs to the open file, which a fork shares: a child that outlived its parent would keep it.
    for lock in list(_held):
        lock.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
