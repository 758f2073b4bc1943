"""A safetensors file written one tensor after the other behind a header that is known beforehand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from neuralmechanics.files import open_regular
from neuralmechanics.files.publishing import write_all

__all__ = ["Write", "bytes_of", "copy_file", "written"]

_COPIED = 1 << 24  # bytes that are copied at a time

Content = bytes | bytearray | memoryview
Write = Callable[[Content], None]


@contextmanager
def written(path: Path, mode: int = 0o666) -> Iterator[Write]:
    """A new file at ``path``, on the disk when the block ends."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), mode)
    try:
        yield lambda content: write_all(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)


def bytes_of(tensor: Tensor) -> memoryview:
    """The bytes of a tensor in memory order, not copied."""
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def copy_file(source: Path, target: Path) -> int:
    """A file byte for byte; the number of its bytes. Links are followed."""
    total = 0
    with open_regular(source) as file, written(target) as write:
        while piece := file.read(_COPIED):
            write(piece)
            total += len(piece)
    return total
