"""The header of a safetensors file: which tensor stands at which bytes, as it was written and checked.

The format: eight bytes with the length of a JSON text, little-endian; the text, ``{name: {dtype, shape,
data_offsets}}`` with ``__metadata__`` beside; the tensors' bytes, one after the other without gaps.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from neuralmechanics.files import open_regular, parse_json

__all__ = ["FLOATS", "Header", "Stored", "element_size", "read_header"]

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
_METADATA = "__metadata__"
_LONGEST = 100 << 20  # bytes of a header, the format's own limit
_ALIGNMENT = 8


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: ``begin`` and ``end`` count bytes from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.end - self.begin


@dataclass(frozen=True)
class Header:
    """The tensors of a file in the order of their bytes; ``text`` is the header as it stands, its length in front."""

    path: Path
    text: bytes
    tensors: tuple[Stored, ...]
    metadata: Mapping[str, Any] | None

    @property
    def start(self) -> int:
        """Where the tensors' bytes begin."""
        return len(self.text)

    def with_added(self, added: Sequence[tuple[str, str, tuple[int, ...], int]]) -> Header:
        """The header with further tensors (name, type, shape, bytes) behind the others; itself where there are none."""
        if not added:
            return self
        at = max((stored.end for stored in self.tensors), default=0)
        tensors = list(self.tensors)
        for name, dtype, shape, size in added:
            tensors.append(Stored(name, dtype, shape, at, at + size))
            at += size
        entries: dict[str, Any] = {} if self.metadata is None else {_METADATA: self.metadata}
        for stored in tensors:
            place = [stored.begin, stored.end]
            entries[stored.name] = {"dtype": stored.dtype, "shape": list(stored.shape), "data_offsets": place}
        content = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
        content += b" " * (-len(content) % _ALIGNMENT)
        return Header(self.path, struct.pack("<Q", len(content)) + content, tuple(tensors), self.metadata)


def element_size(dtype: str) -> int | None:
    """Bytes of an element; None for a type that is not known."""
    return _SIZES.get(dtype)


def read_header(path: Path) -> Header:
    """The header of a file; ``ValueError`` in one line, with the tensor's name, where it and the file disagree."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        text = _text(file, path, size)
    try:
        content = parse_json(text[8:])
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(content, dict):
        raise _damaged(path, "its header is no JSON object")
    metadata = content.pop(_METADATA, None)
    tensors = sorted((_stored(path, name, entry) for name, entry in content.items()), key=lambda t: (t.begin, t.end))
    at = 0
    for stored in tensors:
        if stored.begin != at:
            raise _damaged(path, f"tensor {stored.name!r} begins at byte {stored.begin}, {at} is the next free one")
        at = stored.end
    if len(text) + at != size:
        raise _damaged(path, f"it has {size} bytes, its header speaks of {len(text) + at}")
    return Header(path, text, tuple(tensors), metadata)


def _text(file: BinaryIO, path: Path, size: int) -> bytes:
    first = file.read(8)
    length = struct.unpack("<Q", first)[0] if len(first) == 8 else -1
    if not 0 <= length <= min(_LONGEST, size - 8):
        raise _damaged(path, "it does not begin with the length of its header")
    return first + file.read(length)


def _stored(path: Path, name: str, entry: Any) -> Stored:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        whole = all(type(n) is int and n >= 0 for n in (*shape, begin, end)) and isinstance(dtype, str)
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise _damaged(path, f"tensor {name!r} has no type, shape and place in its header")
    each = _SIZES.get(dtype)
    if end < begin or (each is not None and end - begin != each * math.prod(shape)):
        raise _damaged(path, f"tensor {name!r} of type {dtype} and shape {shape} has {end - begin} bytes")
    return Stored(name, dtype, shape, begin, end)


def _damaged(path: Path, what: str) -> ValueError:
    return ValueError(f"{str(path)!r} is no whole safetensors file: {what}; copy it again from where it came")
