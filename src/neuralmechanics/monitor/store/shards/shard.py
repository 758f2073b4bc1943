"""Shards: immutable files of named arrays, every one of them under its own checksum, each a link of a chain.

A shard is a safetensors file. That format verifies nothing itself (of 200 flipped bits it missed 197), so the
metadata holds a CRC32 for each array, taken over the shard's place in the chain and the array's name, type, shape and
bytes: a shard that was moved to another run, segment or number is as damaged as one whose bytes changed. Format 3 packs
rows of numbers (see `pack`); their checksum is over type and shape as they are read, and the bytes as they are stored.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuralmechanics.files import parse_json, read_regular
from neuralmechanics.monitor.store.atomic import publish
from neuralmechanics.monitor.store.shards.pack import pack, packs, unpack

Arrays = dict[str, np.ndarray[Any, Any]]
_Kind = tuple[str, tuple[int, int]]

_FORMATS = ("neuralmechanics-shard-1", "neuralmechanics-shard-2", "neuralmechanics-shard-3")
# The most that is read as one shard, and as its table of contents.
_BYTES, _HEADER = 4 << 30, 64 << 20


class CorruptShardError(ValueError):
    """A shard whose bytes do not match their checksums. The message names the shard and the array."""


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


def write_shard(
    path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], link: Link | None = None, *, packed: bool = False
) -> None:
    """Publish the arrays as one shard: absent or complete, never in between. `packed`: rows of numbers packed."""
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    place = "" if link is None else json.dumps(asdict(link), sort_keys=True)
    kinds = {n: (a.dtype.str, a.shape) for n, a in contiguous.items() if packed and link is not None and packs(a)}
    contiguous |= {name: pack(contiguous[name]) for name in kinds}
    checksums = {name: _checksum(place, name, array, kinds.get(name)) for name, array in contiguous.items()}
    form = 2 if kinds else int(link is not None)
    metadata = {"format": _FORMATS[form], "crc32": json.dumps(checksums, sort_keys=True)}
    if link is not None:
        metadata["link"] = place
    if kinds:
        metadata["packed"] = json.dumps(kinds, sort_keys=True)
    publish(path, _ordered(save(contiguous, metadata)))


def _ordered(content: bytes) -> bytes:
    """The same file with its metadata by name: safetensors puts them in another order in each process."""
    end = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[end:]


def read_shard(path: Path) -> Shard:
    """A shard, every array verified; `CorruptShardError` names the shard and what is wrong with it.

    Raises FileNotFoundError where there is none: a merged shard may have taken its place.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = read_regular(path, _BYTES)
        place, checksums, kinds = _metadata(content)
        link = None if place == "" else Link(**parse_json(place.encode()))
        arrays: Arrays = load(content)
    except FileNotFoundError:
        raise
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        reason = " ".join(str(error).split())
        raise CorruptShardError(f"{_name(path)}: cannot be read ({reason})") from None
    if set(arrays) != set(checksums):
        odd = sorted(set(arrays) ^ set(checksums))
        raise CorruptShardError(f"{_name(path)}: array {odd[0]!r} is missing or has no checksum")
    for name, array in arrays.items():
        if _checksum(place, name, array, kinds.get(name)) != checksums[name]:
            raise CorruptShardError(f"{_name(path)}: array {name!r} does not match its checksum")
    return Shard(arrays | _unpacked(path, arrays, kinds), link)


def _unpacked(path: Path, arrays: Arrays, kinds: Mapping[str, _Kind]) -> Arrays:
    out: Arrays = {}
    for name, (dtype, shape) in kinds.items():
        try:
            out[name] = unpack(arrays[name], dtype, shape)
        except (ValueError, KeyError, struct.error) as error:
            raise CorruptShardError(f"{_name(path)}: array {name!r} cannot be unpacked ({error})") from None
    return out


def _metadata(content: bytes) -> tuple[str, dict[str, int], dict[str, _Kind]]:
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(_HEADER, len(content) - 8):
        raise ValueError("its header runs past the end of the file")
    metadata = parse_json(content[8 : 8 + length])["__metadata__"]
    if metadata["format"] not in _FORMATS:
        raise ValueError(f"format {metadata['format']!r}, expected {_FORMATS[-1]!r}")
    place = metadata["link"] if metadata["format"] != _FORMATS[0] else ""
    checksums = parse_json(metadata["crc32"].encode())
    if not isinstance(checksums, dict):
        raise ValueError("its checksums are not a table")
    packed = parse_json(metadata["packed"].encode()) if metadata["format"] == _FORMATS[2] else {}
    return (
        place,
        checksums,
        {name: (str(dtype), (int(rows), int(row))) for name, (dtype, (rows, row)) in packed.items()},
    )


def _checksum(place: str, name: str, array: np.ndarray[Any, Any], kind: _Kind | None) -> int:
    dtype, shape = (array.dtype.str, array.shape) if kind is None else kind
    description = f"{place}{name}|{dtype}|{shape}".encode(errors="surrogatepass")
    return zlib.crc32(array.reshape(-1).view(np.uint8).data if array.size else b"", zlib.crc32(description))


def _name(path: Path) -> str:
    return f"shard {path.parent.name}/{path.name}"
