"""MNIST's own files: the IDX format, plain or gzipped (LeCun; magic 0x0000 08 <dimensions>, big-endian sizes)."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from neuralmechanics.experiments.data.dataset import Split, require_labels
from neuralmechanics.files import open_regular

_UNSIGNED_BYTE = 8
_MOST_DIMENSIONS = 4
# Ten times the largest relative of MNIST; images shrink five times in gzip, black ones alone a thousand times.
_MOST_BYTES, _MOST_SHRUNK, _SMALL = 1 << 29, 100, 1 << 20
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def read_idx(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The array of unsigned bytes in an IDX file; `ValueError` if it is something else, cut short, or far too large."""
    with open_regular(path) as file:
        packed = path.suffix == ".gz"
        most = min(_MOST_BYTES, _MOST_SHRUNK * os.fstat(file.fileno()).st_size + _SMALL)
        try:
            if not packed:
                return _array(file, path, most)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _array(unpacked, path, most)  # type: ignore[arg-type]
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{str(path)!r} is no gzip file, or cut short: {error}") from None


def _array(file: BinaryIO, path: Path, most: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _UNSIGNED_BYTE or not 0 < magic[3] <= _MOST_DIMENSIONS:
        raise ValueError(f"{str(path)!r} is no IDX file of unsigned bytes")
    sizes = file.read(4 * magic[3])
    shape = struct.unpack(f">{magic[3]}I", sizes) if len(sizes) == 4 * magic[3] else ()
    promised = "×".join(map(str, shape))
    if shape and prod(shape) > most:
        raise ValueError(f"{str(path)!r} promises {promised} bytes, more than the {most} that such a file may hold")
    content = file.read(prod(shape) + 1) if shape else b""
    if not shape or len(content) != prod(shape):
        raise ValueError(f"{str(path)!r} is cut short or has rests: its header promises {promised}")
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


def idx_splits(root: Path, classes: int, size: int) -> tuple[Split, Split] | None:
    """Training and test split from the four files in `root` (or `root`/MNIST/raw); None if they are not there."""
    for folder in (root, root / "MNIST" / "raw", root / "raw"):
        paths = [path for name in FILES for path in (folder / name, folder / f"{name}.gz") if path.exists()]
        if {path.name.removesuffix(".gz") for path in paths} == set(FILES):
            by_name = {path.name.removesuffix(".gz"): path for path in reversed(paths)}
            images, labels, test_images, test_labels = (by_name[name] for name in FILES)
            return _split(images, labels, classes, size), _split(test_images, test_labels, classes, size)
    return None


def _split(images_path: Path, labels_path: Path, classes: int, size: int) -> Split:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or not len(labels):
        raise ValueError(
            f"{str(images_path)!r} and {labels_path.name!r} hold images of shape {images.shape} for labels of shape "
            f"{labels.shape}"
        )
    if images.shape[1:] != (size, size):
        raise ValueError(f"{str(images_path)!r} holds images of {images.shape[1]}×{images.shape[2]}, not {size}×{size}")
    require_labels(labels, classes, labels_path)
    return Split(torch.from_numpy(images[:, None]), torch.from_numpy(labels.astype(np.int64)))
