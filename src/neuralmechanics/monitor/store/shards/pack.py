"""Rows of numbers in fewer bytes, without loss: their bytes by significance, each by Huffman's code where that helps.

The upper bytes, sign and exponent, of neighbouring records are nearly equal: their differences from the row before take
a few bits. Lower bytes stand as they are.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator

import numpy as np

__all__ = ["pack", "packing", "packs", "require_packed", "unpack"]

# Below this a header outweighs what is won.
_FEWEST = 4096
# Deflate makes at most 1032 bytes of one.
_GREATEST_RATIO = 1100
_SAMPLE, _WORTH = 1 << 13, 0.95
_SIZE = struct.Struct("<Q")
_KINDS = ("<f4", "<f8", "<u2")


def packs(array: np.ndarray) -> bool:
    """Whether an array is one whose bytes are worth it: many rows of floats, or of their upper halves."""
    return array.ndim == 2 and len(array) > 1 and array.size >= _FEWEST and array.dtype.str in _KINDS


def pack(array: np.ndarray) -> np.ndarray:
    """One array of bytes that `unpack` makes the same array of.

    >>> rows = np.linspace(1, 2, 8000, dtype=np.float32).reshape(8, 1000)
    >>> packed = pack(rows)
    >>> packed.nbytes < 0.9 * rows.nbytes, np.array_equal(unpack(packed, "<f4", (8, 1000)), rows)
    (True, True)
    """
    work = packing(array)
    while True:
        try:
            next(work)
        except StopIteration as done:
            packed: np.ndarray = done.value
            return packed


def packing(array: np.ndarray) -> Generator[int, None, np.ndarray]:
    """The same plane by plane; yields how many bytes each has."""
    out = bytearray()
    rows = np.ascontiguousarray(array)
    planes = rows.view(np.uint8).reshape(*rows.shape, rows.dtype.itemsize)
    steps = np.empty(rows.shape, dtype=np.uint8)
    for number in range(rows.dtype.itemsize):
        plane = planes[:, :, rows.dtype.itemsize - 1 - number]
        steps[...] = plane
        if number < 2:
            np.subtract(plane[1:], plane[:-1], out=steps[1:])
        stored = _deflated(steps.reshape(-1))
        out += _SIZE.pack(len(stored)) + stored
        yield steps.size
    return np.frombuffer(out, dtype=np.uint8)


def require_packed(packed: np.ndarray, dtype: str, shape: tuple[int, int]) -> None:
    """`ValueError` unless the bytes have the form of packed rows of that type and shape; codes are not followed."""
    _stored_planes(packed, dtype, shape)


def unpack(packed: np.ndarray, dtype: str, shape: tuple[int, int]) -> np.ndarray:
    """The array of that type and shape; `ValueError` where the bytes are not those of one."""
    planes = _stored_planes(packed, dtype, shape)
    kind, (rows, columns) = np.dtype(dtype), shape
    size = rows * columns
    out = np.empty((rows, columns, kind.itemsize), dtype=np.uint8)
    for number, stored in enumerate(planes):
        plane = np.frombuffer(stored if len(stored) == size else _inflated(stored, size), dtype=np.uint8)
        if plane.size != size:
            raise ValueError(f"{plane.size} packed bytes in place of {size}")
        plane = plane.reshape(shape)
        if number < 2:
            plane = plane.copy()
            for row in range(
                1, rows
            ):  # neighbours in memory, many at once: a sum along columns takes ten times as long
                plane[row] += plane[row - 1]
        out[:, :, kind.itemsize - 1 - number] = plane
    return out.view(kind)[:, :, 0]


def _stored_planes(packed: np.ndarray, dtype: str, shape: tuple[int, int]) -> list[memoryview]:
    """What is stored of each plane, the most significant first."""
    if dtype not in _KINDS or min(shape) < 1 or packed.dtype != np.uint8 or packed.ndim != 1:
        raise ValueError(f"packed rows of type {dtype} and shape {list(shape)}")
    size, width = shape[0] * shape[1], np.dtype(dtype).itemsize
    if size * width > _GREATEST_RATIO * packed.size:
        raise ValueError(f"{packed.size} bytes cannot be {size} packed numbers")
    content, at, planes = np.ascontiguousarray(packed).data, 0, []
    for _ in range(width):
        (length,) = _SIZE.unpack_from(content, at)
        at += _SIZE.size
        planes.append(content[at : at + length])
        if len(planes[-1]) != length or length > size:
            raise ValueError(f"{length} bytes of one plane of {size} packed numbers")
        at += length
    if at != len(content):
        raise ValueError(f"{len(content) - at} bytes after the packed numbers")
    return planes


def _deflated(plane: np.ndarray) -> bytes:
    """By Huffman's code and lengths of runs where a sample from the middle says that it is worth it."""
    middle = max(0, plane.size // 2 - _SAMPLE)
    if plane.size > 4 * _SAMPLE and len(_coded(plane[middle : middle + _SAMPLE])) > _WORTH * _SAMPLE:
        return plane.tobytes()
    short = _coded(plane)
    return short if len(short) < plane.size else plane.tobytes()


def _coded(plane: np.ndarray) -> bytes:
    coder = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
    return coder.compress(plane.data) + coder.flush()


def _inflated(stored: memoryview, size: int) -> bytes:
    try:
        return zlib.decompressobj(-15).decompress(stored, size + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
