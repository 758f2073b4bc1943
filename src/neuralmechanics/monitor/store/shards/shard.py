"""Shards: immutable files of named arrays, every one of them under its own checksum, each a link of a chain.

A shard is a safetensors file. That format verifies nothing itself (of 200 flipped bits it missed 197), so the
metadata holds a CRC32 for each array, taken over the shard's place in the chain and the array's name, type, shape and
bytes: a shard that was moved to another run, segment or number is as damaged as one whose bytes changed. Format 3 packs
rows of numbers (see `pack`); their checksum is over type and shape as they are read, and the bytes as they are stored.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuralmechanics.files import parse_json
from neuralmechanics.monitor.store.atomic import publish
from neuralmechanics.monitor.store.shards.pack import pack, packs
from neuralmechanics.monitor.store.shards.stored import (
    FORMATS,
    CorruptShardError,
    StoredArrays,
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
    "read_shard",
    "write_shard",
    "written",
]

Arrays = dict[str, np.ndarray[Any, Any]]


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


def write_shard(
    path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], link: Link | None = None, *, packed: bool = False
) -> None:
    """Publish the arrays as one shard: absent or complete, never in between. `packed`: rows of numbers packed."""
    publish_shard(path, {n: written(a, packed=packed and link is not None) for n, a in arrays.items()}, link)


def publish_shard(path: Path, arrays: Mapping[str, Written], link: Link | None) -> None:
    """Publish what is to be written as one shard: absent or complete, never in between."""
    from safetensors.numpy import save

    place = "" if link is None else json.dumps(asdict(link), sort_keys=True)
    kinds = {name: array.packed for name, array in arrays.items() if array.packed is not None}
    checksums = {name: checksum(place, name, array.stored, array.packed) for name, array in arrays.items()}
    form = 2 if kinds else int(link is not None)
    metadata = {"format": FORMATS[form], "crc32": json.dumps(checksums, sort_keys=True)}
    if link is not None:
        metadata["link"] = place
    if kinds:
        metadata["packed"] = json.dumps(kinds, sort_keys=True)
    publish(path, _ordered(save({name: array.stored for name, array in arrays.items()}, metadata)))


def _ordered(content: bytes) -> bytes:
    """The same file with its metadata by name: safetensors puts them in another order in each process."""
    end = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[end:]


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
