"""MNIST's own files: the IDX format, plain or gzipped (LeCun; magic 0x0000 08 <dimensions>, big-endian sizes)."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from math import prod
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from neuralmechanics.experiments.data.dataset import Split, require_labels
from neuralmechanics.experiments.data.readers.tree import Place

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


def read_idx(place: Place) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The array of unsigned bytes in an IDX file; `ValueError` if it is something else, cut short, or far too large."""
    with place.open() as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        most = min(_MOST_BYTES, _MOST_SHRUNK * size + _SMALL)
        try:
            if not place.name.endswith(".gz"):
                return _array(file, place, most)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _array(cast(BinaryIO, unpacked), place, most)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{str(place)!r} is no gzip file, or cut short: {error}") from None


def _array(file: BinaryIO, place: Place, most: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _UNSIGNED_BYTE or not 0 < magic[3] <= _MOST_DIMENSIONS:
        raise ValueError(f"{str(place)!r} is no IDX file of unsigned bytes")
    sizes = file.read(4 * magic[3])
    shape = struct.unpack(f">{magic[3]}I", sizes) if len(sizes) == 4 * magic[3] else ()
    promised = "×".join(map(str, shape))
    if shape and prod(shape) > most:
        raise ValueError(f"{str(place)!r} promises {promised} bytes, more than the {most} that such a file may hold")
    # One byte more than promised, so that a rest behind the array shows.
    content = file.read(prod(shape) + 1) if shape else b""
    if not shape or len(content) != prod(shape):
        raise ValueError(f"{str(place)!r} is cut short or has rests: its header promises {promised}")
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


def idx_splits(folder: Place, classes: int, size: int) -> tuple[Split, Split] | None:
    """Training and test split from the four files in `folder`; None if none of them is there.

    Each may be gzipped, and may have a dot in its name where its publisher has a dash before `idx`.
    """
    present = {file.name: file for file in folder.files()}
    found = {name: next((present[form] for form in _forms(name) if form in present), None) for name in FILES}
    missing = [name for name, place in found.items() if place is None]
    if len(missing) == len(FILES):
        return None
    if missing:
        raise ValueError(f"{str(folder)!r} lacks {', '.join(missing)} (or .gz)")
    images, labels, test_images, test_labels = (cast(Place, found[name]) for name in FILES)
    return _split(images, labels, classes, size), _split(test_images, test_labels, classes, size)


def _forms(name: str) -> tuple[str, ...]:
    dotted = name.replace("-idx", ".idx")
    return name, f"{name}.gz", dotted, f"{dotted}.gz"


def _split(images_file: Place, labels_file: Place, classes: int, size: int) -> Split:
    images, labels = read_idx(images_file), read_idx(labels_file)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or not len(labels):
        raise ValueError(
            f"{str(images_file)!r} and {labels_file.name!r} hold images of shape {images.shape} for labels of shape "
            f"{labels.shape}"
        )
    if images.shape[1:] != (size, size):
        raise ValueError(f"{str(images_file)!r} holds images of {images.shape[1]}×{images.shape[2]}, not {size}×{size}")
    require_labels(labels, classes, labels_file)
    return Split(torch.from_numpy(images[:, None]), torch.from_numpy(labels.astype(np.int64)))
