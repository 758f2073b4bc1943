"""Shards: immutable files of named arrays, every one of them under its own checksum, each a link of a chain.

A shard is a safetensors file. That format verifies nothing itself (of 200 flipped bits it missed 197), so the
metadata holds a CRC32 for each array, taken over the shard's place in the chain and the array's name, type, shape and
bytes: a shard that was moved to another run, segment or number is as damaged as one whose bytes changed. Format 3 packs
rows of numbers (see `pack`); their checksum is over type and shape as they are read, and the bytes as they are stored.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuralmechanics.files import parse_json
from neuralmechanics.monitor.store.atomic import publish, publishing, write_all
from neuralmechanics.monitor.store.shards.pack import pack, packing, packs
from neuralmechanics.monitor.store.shards.stored import (
    FORMATS,
    TYPE_NAMES,
    CorruptShardError,
    StoredArrays,
    bytes_of,
    checksum,
    open_arrays,
    shard_title,
)

__all__ = [
    "Arrays",
    "CorruptShardError",
    "Link",
    "Shard",
    "Written",
    "open_shard",
    "publish_shard",
    "publishing_shard",
    "read_shard",
    "write_shard",
    "writing",
    "written",
]

Arrays = dict[str, np.ndarray[Any, Any]]
_ORDER = {kind: place for place, kind in enumerate(TYPE_NAMES)}


@dataclass(frozen=True)
class Link:
    """A shard's place: its run, its segment, the records before it there, those in it, where its segment starts."""

    run: str
    segment: int
    before: int
    count: int
    start_step: int


@dataclass(frozen=True)
class Shard:
    """What a shard holds, and its place in the chain; None where it was written by format 1."""

    arrays: Arrays
    link: Link | None


@dataclass(frozen=True)
class Written:
    """An array as it is written, and what it is unpacked to where it is packed."""

    stored: np.ndarray[Any, Any]
    packed: tuple[str, tuple[int, ...]] | None = None


def written(array: np.ndarray[Any, Any], *, packed: bool) -> Written:
    """What is written of an array; `packed`: packed where that is worth it."""
    if packed and packs(array):
        return Written(pack(array), (array.dtype.str, array.shape))
    return Written(np.ascontiguousarray(array))


def writing(array: np.ndarray[Any, Any]) -> Generator[int, None, Written]:
    """The same, packed where that is worth it, in pieces: yields the bytes that each worked on."""
    if not packs(array):
        return Written(np.ascontiguousarray(array))
    packed = yield from packing(array)
    return Written(packed, (array.dtype.str, array.shape))


def write_shard(
    path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], link: Link | None = None, *, packed: bool = False
) -> None:
    """Publish the arrays as one shard: absent or complete, never in between. `packed`: rows of numbers packed."""
    publish_shard(path, {n: written(a, packed=packed and link is not None) for n, a in arrays.items()}, link)


def publish_shard(path: Path, arrays: Mapping[str, Written], link: Link | None) -> None:
    """Publish what is to be written as one shard: absent or complete, never in between."""
    publish(path, b"".join(_pieces(arrays, link)))


def publishing_shard(path: Path, arrays: Mapping[str, Written], link: Link | None, size: int) -> Iterator[None]:
    """The same with at most so many bytes written at once, each time on the disk before the next."""
    with publishing(path) as handle:
        for number, chunk in enumerate(_chunks(_pieces(arrays, link), size)):
            if number:
                os.fsync(handle)
                yield
            write_all(handle, chunk)


def _chunks(pieces: Iterable[bytes | memoryview], size: int) -> Iterator[bytes]:
    """The bytes of all pieces, `size` at most at a time."""
    held: list[bytes | memoryview] = []
    length = 0
    for piece in pieces:
        for begin in range(0, len(piece), size):
            part = piece[begin : begin + size]
            if length + len(part) > size:
                yield b"".join(held)
                held, length = [], 0
            held.append(part)
            length += len(part)
    yield b"".join(held)


def _pieces(arrays: Mapping[str, Written], link: Link | None) -> list[bytes | memoryview]:
    """The safetensors file of contiguous arrays, one after the other, in one order whatever the process.

    The package's own writer copies everything three times, and puts metadata in another order in each process.
    """
    place = "" if link is None else json.dumps(asdict(link), sort_keys=True)
    kinds = {name: array.packed for name, array in arrays.items() if array.packed is not None}
    checksums = {name: checksum(place, name, array.stored, array.packed) for name, array in arrays.items()}
    metadata = {"crc32": json.dumps(checksums, sort_keys=True)}
    metadata["format"] = FORMATS[2 if kinds else int(link is not None)]
    if link is not None:
        metadata["link"] = place
    if kinds:
        metadata["packed"] = json.dumps(kinds, sort_keys=True)
    header: dict[str, Any] = {"__metadata__": metadata}
    at = 0
    # As safetensors has them, and as they are aligned best: by type, then by name.
    ordered = sorted(arrays, key=lambda name: (-_ORDER[arrays[name].stored.dtype.str], name))
    for name in ordered:
        array = arrays[name].stored
        extent = [at, at + array.nbytes]
        header[name] = {"dtype": TYPE_NAMES[array.dtype.str], "shape": list(array.shape), "data_offsets": extent}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [struct.pack("<Q", len(text)), text, *(bytes_of(arrays[name].stored) for name in ordered)]


def open_shard(path: Path, *, keep: bool = False) -> tuple[StoredArrays, Link | None]:
    """A shard's arrays, every one verified now and read when it is asked for, and its place; `keep`: see `open_arrays`.

    `CorruptShardError` names the shard and what is wrong with it. Raises FileNotFoundError where there is none: a
    merged shard may have taken its place.
    """
    arrays = open_arrays(path, keep=keep)
    try:
        return arrays, None if arrays.link == "" else Link(**parse_json(arrays.link.encode()))
    except (ValueError, TypeError, AttributeError) as error:
        raise CorruptShardError(f"{shard_title(path)}: cannot be read ({error})") from None


def read_shard(path: Path) -> Shard:
    """A shard with all its arrays in memory, unpacked; raises as `open_shard` does."""
    arrays, link = open_shard(path, keep=True)
    return Shard(dict(arrays), link)
