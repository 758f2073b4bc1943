"""Reading what others wrote: regular files alone, of bounded size, every fault said in one line."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["inside", "open_regular", "parse_json", "read_regular"]

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: Path) -> BinaryIO:
    """The file at a path, opened to be read; `ValueError` for a pipe, a device, a folder: reading one may never end.

    Raises OSError as `open` does where there is no such file or it may not be read.
    """
    # Without O_NONBLOCK the opening of a pipe would wait for its other end.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        kind = next((name for test, name in _KINDS if test(mode)), "no regular file")
        raise ValueError(f"{str(path)!r} is {kind}, not a file; give a regular file")
    return os.fdopen(handle, "rb")


def read_regular(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes; `ValueError` names the file and what is wrong with it."""
    with open_regular(path) as file:
        # One byte more than is allowed tells that there are too many; a size asked for beforehand may change.
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{str(path)!r} is larger than the {most} bytes that are read of such a file")
    return content


def parse_json(content: bytes) -> Any:
    """The value that a JSON text holds; `ValueError` in one line for anything else, nested too deeply included."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"its JSON is not text: {error.reason}") from None


def inside(root: Path, name: str | Path) -> Path:
    """`root`/`name` if that lies inside `root`, links followed; `ValueError` where it leads elsewhere.

    >>> inside(Path("/data"), "train/a.png").as_posix()
    '/data/train/a.png'
    >>> inside(Path("/data"), "../secret")
    Traceback (most recent call last):
    ValueError: '../secret' leads out of the folder '/data'; a data set is read from its own folder alone
    """
    path = root / name
    # Both, because the root itself may be a link.
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(
            f"{str(name)!r} leads out of the folder {str(root)!r}; a data set is read from its own folder alone"
        )
    return path
