"""The arrays of one shard on the disk: all verified when it is opened, each read when it is asked for.

What is not kept in memory is verified again when it is read: a file may change after it was opened, and one that a
writer has merged since then is gone.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from neuralmechanics.files import open_regular, parse_json
from neuralmechanics.monitor.store.shards.pack import require_packed, unpack

Array = np.ndarray[Any, Any]

FORMATS = ("neuralmechanics-shard-1", "neuralmechanics-shard-2", "neuralmechanics-shard-3")
# The most that is read as one shard, as its table of contents, and at once to verify it.
_BYTES, _HEADER, _AT_ONCE = 4 << 30, 64 << 20, 16 << 20
_TYPES = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "I16": "<i2", "U16": "<u2", "F16": "<f2", "I32": "<i4", "U32": "<u4",
    "F32": "<f4", "C64": "<c8", "F64": "<f8", "I64": "<i8", "U64": "<u8",
}  # fmt: skip
TYPE_NAMES = {kind: name for name, kind in _TYPES.items()}
"""of numpy's types, what safetensors calls them, in its order"""


class CorruptShardError(ValueError):
    """A shard whose bytes do not match their checksums. The message names the shard and the array."""


class Kind(NamedTuple):
    """The type and the shape of an array."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Place:
    """Where an array lies in its file, what it is there, and what it is unpacked to where it is packed."""

    begin: int
    end: int
    stored: Kind
    packed: tuple[str, tuple[int, int]] | None
    checksum: int

    @property
    def kind(self) -> Kind:
        """What is read from there."""
        return self.stored if self.packed is None else Kind(np.dtype(self.packed[0]), self.packed[1])


class StoredArrays(Mapping[str, Array]):
    """The arrays of a shard by name, read from its file each time unless `content` holds all of it.

    `CorruptShardError` where the file is no longer what it was when it was opened.
    """

    def __init__(self, path: Path, link: str, places: Mapping[str, _Place], content: bytes | None) -> None:
        self.link = link
        """the shard's place in the chain, as it is written there"""
        self._path = path
        self._places = places
        self._content = content

    def kind(self, name: str) -> Kind:
        """Type and shape of an array, without reading it."""
        return self._places[name].kind

    @property
    def name(self) -> str:
        """The file's name in the run."""
        return f"{self._path.parent.name}/{self._path.name}"

    def problem(self) -> str:
        """What keeps an array from being read and unpacked; empty where nothing does."""
        try:
            for name in self:
                self[name]
        except CorruptShardError as error:
            return str(error)
        return ""

    def __getitem__(self, name: str) -> Array:
        place = self._places[name]
        stored = self._stored(name, place)
        if place.packed is None:
            return stored
        try:
            return unpack(stored, *place.packed)
        except (ValueError, struct.error) as error:
            raise CorruptShardError(f"{shard_title(self._path)}: array {name!r} cannot be unpacked ({error})") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places  # Mapping would read the array to see whether it is there

    def _stored(self, name: str, place: _Place) -> Array:
        if self._content is not None:
            return _array(self._content[place.begin : place.end], place).copy()
        try:
            with open_regular(self._path) as file:
                file.seek(place.begin)
                array = _array(file.read(place.end - place.begin), place)
        except FileNotFoundError:
            raise CorruptShardError(
                f"{shard_title(self._path)} is gone since the run was opened: its writer has merged it, or somebody "
                "removed it; open the run again"
            ) from None
        except (OSError, ValueError) as error:
            raise CorruptShardError(f"{shard_title(self._path)}: cannot be read ({error})") from None
        _require_checksum(self._path, self.link, name, array, place)
        return array.copy()


def open_arrays(path: Path, *, keep: bool, verify: bool = True) -> StoredArrays:
    """The arrays of a shard, every one verified, now or by `verify=False` when it is read.

    `keep` holds all of its bytes, so that the file may go.
    `CorruptShardError` names the shard and what is wrong with it; FileNotFoundError where there is none.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > _BYTES:
                raise ValueError(f"it is larger than the {_BYTES} bytes that are read of such a file")
            content = file.read() if keep or (verify and size <= _AT_ONCE) else None
            begin, header = _header(file, content, size)
            link, places = _places(begin, size, header)
            for name, place in places.items() if verify else ():
                raw = _bytes(file, content, place)
                array = _array(raw, place)
                _require_checksum(path, link, name, array, place)
                if place.packed is not None:
                    _require_packed(path, name, array, place.packed)
    except (FileNotFoundError, CorruptShardError):
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, struct.error) as error:
        reason = " ".join(str(error).split())
        raise CorruptShardError(f"{shard_title(path)}: cannot be read ({reason})") from None
    return StoredArrays(path, link, places, content if keep else None)


def checksum(link: str, name: str, array: Array, packed: tuple[str, tuple[int, ...]] | None) -> int:
    """CRC32 over a shard's place in the chain, an array's name, type and shape as it is read, and bytes as stored."""
    dtype, shape = (array.dtype.str, array.shape) if packed is None else packed
    description = f"{link}{name}|{dtype}|{shape}".encode(errors="surrogatepass")
    return zlib.crc32(bytes_of(array), zlib.crc32(description))


def bytes_of(array: Array) -> memoryview | bytes:
    """The bytes of a contiguous array where they lie."""
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def shard_title(path: Path) -> str:
    """What messages call the shard in a file."""
    return f"shard {path.parent.name}/{path.name}"


def _require_checksum(path: Path, link: str, name: str, array: Array, place: _Place) -> None:
    if checksum(link, name, array, place.packed) != place.checksum:
        raise CorruptShardError(f"{shard_title(path)}: array {name!r} does not match its checksum")


def _require_packed(path: Path, name: str, array: Array, packed: tuple[str, tuple[int, int]]) -> None:
    try:
        require_packed(array, *packed)
    except (ValueError, struct.error) as error:
        raise CorruptShardError(f"{shard_title(path)}: array {name!r} cannot be unpacked ({error})") from None


def _bytes(file: BinaryIO, content: bytes | None, place: _Place) -> bytes | memoryview:
    if content is not None:
        return memoryview(content)[place.begin : place.end]
    file.seek(place.begin)
    return file.read(place.end - place.begin)


def _array(raw: bytes | memoryview, place: _Place) -> Array:
    """The array that lies in some bytes; read-only."""
    return np.frombuffer(raw, dtype=place.stored.dtype).reshape(place.stored.shape)


def _header(file: BinaryIO, content: bytes | None, size: int) -> tuple[int, dict[str, Any]]:
    """Where the arrays begin, and the table of contents."""
    first = content[:8] if content is not None else file.read(8)
    (length,) = struct.unpack("<Q", first)
    if length > min(_HEADER, size - 8):
        raise ValueError("its header runs past the end of the file")
    header = parse_json(content[8 : 8 + length] if content is not None else file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    return 8 + length, header


def _places(begin: int, size: int, header: dict[str, Any]) -> tuple[str, dict[str, _Place]]:
    """The place in the chain, and each array's in the file; ValueError unless these fill it without a gap."""
    metadata = header.pop("__metadata__")
    if metadata["format"] not in FORMATS:
        raise ValueError(f"format {metadata['format']!r}, expected {FORMATS[-1]!r}")
    link = metadata["link"] if metadata["format"] != FORMATS[0] else ""
    checksums = parse_json(metadata["crc32"].encode())
    packed = parse_json(metadata["packed"].encode()) if metadata["format"] == FORMATS[2] else {}
    if not isinstance(checksums, dict) or not isinstance(packed, dict):
        raise ValueError("its checksums are not a table")
    if odd := sorted((set(header) ^ set(checksums)) | (set(packed) - set(header))):
        raise ValueError(f"array {odd[0]!r} is missing or has no checksum")
    kinds = {name: (str(dtype), (int(rows), int(row))) for name, (dtype, (rows, row)) in packed.items()}
    places = {
        name: _place(begin, entry, kinds.get(name), checksums[name])
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    }
    at = begin
    for name, place in places.items():
        if place.begin != at:
            raise ValueError(f"array {name!r} begins at {place.begin - begin} and not at {at - begin}")
        at = place.end
    if at != size:
        raise ValueError(f"its arrays end at {at}, the file at {size}")
    return link, places


def _place(begin: int, entry: dict[str, Any], packed: tuple[str, tuple[int, int]] | None, check: Any) -> _Place:
    first, end = entry["data_offsets"]
    shape, dtype = tuple(entry["shape"]), np.dtype(_TYPES[entry["dtype"]])
    if not all(type(number) is int and number >= 0 for number in (first, end, *shape)):
        raise ValueError(f"an array of shape {list(shape)} from {first} to {end}")
    count = 1
    for length in shape:
        count *= length
    if count * dtype.itemsize != end - first:
        raise ValueError(f"{end - first} bytes for an array of type {dtype} and shape {list(shape)}")
    return _Place(begin + first, begin + end, Kind(dtype, shape), packed, check)
