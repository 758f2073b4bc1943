"""The operating system as the package's files see it, with a hand on every call that changes the disk.

Each call is a named point, such as `fsync record` or `replace merged`: what stands before it and after it is where a
kill, or an error, can fall.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

from neuralmechanics.files import publishing
from neuralmechanics.monitor.store import lock, merging, tally

MODULES = (publishing, lock, merging, tally)
KINDS = ("create", "write", "fsync", "replace", "mkdir", "unlink")

# Called as hand(point, after): before and after the call that the point names.
Hand = Callable[[str, bool], None]


class WatchedOs:
    """`os`, but for the calls that change the disk, which a hand is told of before and after."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._open: dict[int, str] = {}
        self._replaced = "nothing"

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        role = _role(path)
        if not flags & (os.O_WRONLY | os.O_RDWR):
            handle = os.open(path, flags, mode)
            self._open[handle] = f"folder after {self._replaced}"
            return handle
        handle = self._do(f"create {role}", lambda: os.open(path, flags, mode))
        self._open[handle] = role
        return handle

    def write(self, handle: int, content: Any) -> int:
        return self._do(f"write {self._open[handle]}", lambda: os.write(handle, content))

    def pwrite(self, handle: int, content: bytes, offset: int) -> int:
        return self._do(f"write {self._open[handle]}", lambda: os.pwrite(handle, content, offset))

    def fsync(self, handle: int) -> None:
        self._do(f"fsync {self._open[handle]}", lambda: os.fsync(handle))

    def replace(self, source: Any, target: Any) -> None:
        self._do(f"replace {_role(target)}", lambda: os.replace(source, target))
        self._replaced = _role(target)

    def mkdir(self, path: Any) -> None:
        self._do(f"mkdir {_role(path)}", lambda: os.mkdir(path))
        self._replaced = _role(path)

    def unlink(self, path: Any) -> None:
        self._do(f"unlink {_role(path)}", lambda: os.unlink(path))

    def _do(self, point: str, call: Callable[[], Any]) -> Any:
        self._hand(point, False)
        result = call()
        self._hand(point, True)
        return result


def _role(path: Any) -> str:
    name = re.sub(r"^\.(tmp|partial)-\d+-", "", os.path.basename(os.fspath(path)))
    if match := re.fullmatch(r"records-(\d+)-(\d+)\.safetensors", name):
        return "record" if match[1] == match[2] else "merged"
    return re.sub(r"-\d+$", "", name)


def install(hand: Hand, monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Put a hand on every call of the package's files; for good in a child process, else until the test ends."""
    watched = WatchedOs(hand)
    for module in MODULES:
        if monkeypatch is None:
            module.os = watched  # type: ignore[assignment]
        else:
            monkeypatch.setattr(module, "os", watched)


class Listen:
    """Writes down every point that is passed."""

    def __init__(self) -> None:
        self.points: list[str] = []

    def __call__(self, point: str, after: bool) -> None:
        if not after:
            self.points.append(point)


class KillAt:
    """Kills this process with SIGKILL at the n-th passing of a point, before its call or after it."""

    def __init__(self, point: str, occurrence: int, after: bool) -> None:
        self._point, self._left, self._after = point, occurrence, after

    def __call__(self, point: str, after: bool) -> None:
        if (point, after) == (self._point, self._after):
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


class FailAt:
    """The n-th call of a kind fails, and `length` - 1 after it; `kind` is the first word of a point."""

    def __init__(self, kind: str, number: int, length: int = 1, error: int = 28) -> None:
        self._kind, self._number, self._end, self._error = kind, number, number + length, error
        self.seen = 0
        self.failed: list[str] = []

    def __call__(self, point: str, after: bool) -> None:
        if after or self._kind not in (point.split()[0], "any"):
            return
        self.seen += 1
        if self._number <= self.seen < self._end:
            self.failed.append(point)
            raise OSError(self._error, os.strerror(self._error))
