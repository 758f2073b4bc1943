"""Merging: many single records of a segment become one shard, a bounded piece of the work at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuralmechanics.monitor.store.layout import ShardFile, all_shards, shard_name
from neuralmechanics.monitor.store.shards.narrow import narrowing
from neuralmechanics.monitor.store.shards.schema import DRIVE_PREFIX, STATE_PREFIX
from neuralmechanics.monitor.store.shards.shard import (
    Arrays,
    CorruptShardError,
    Link,
    publishing_shard,
    read_shard,
    writing,
    written,
)
from neuralmechanics.monitor.store.shards.stored import StoredArrays, open_arrays

# Records merged into one shard: few enough to lose to one bad sector, many enough to keep folders small.
MERGED = 64
# And so few that no piece of the work takes long: so many numbers of one kind, with the fewest records.
_NUMBERS, _FEWEST = 1 << 23, 4
# What is worked on before the training goes on: so many bytes, or so many records where these are larger, which are
# twice as many as would do to be done before the next block is full.
_PIECE_BYTES, _PIECE_RECORDS = 8 << 20, 2


def block_of(arrays: Mapping[str, np.ndarray[Any, Any]]) -> int:
    """How many records like this one are merged into one shard."""
    size, block = max(array.size for array in arrays.values()), MERGED
    while block > _FEWEST and block * size > _NUMBERS:
        block //= 2
    return block


def merge_blocks(segment: Path, block: int, run: str, number: int, start_step: int) -> Iterator[None]:
    """Put every whole block of single shards into one, those that an earlier attempt left included.

    A merged shard is published before the single ones are removed. Yields after each piece of work.
    """
    files = all_shards(segment)
    blocks: dict[int, list[ShardFile]] = {}
    for file in files:
        if file.count == 1:
            blocks.setdefault(file.first - file.first % block, []).append(file)
    for first, singles in blocks.items():
        done = any(file.first == first and file.count == block and _sound(file) for file in files)
        if not done and len(singles) == block:
            link = Link(run, number, first, block, start_step)
            try:
                yield from _merge(singles, segment / shard_name(first, first + block - 1), link)
                done = True
            except CorruptShardError:
                # A reader will name the damaged shard; merging would only lose its neighbours with it.
                continue
        if done:
            for file in singles:
                os.unlink(file.path)


def _merge(singles: list[ShardFile], path: Path, link: Link) -> Iterator[None]:
    """One shard of some single ones, in pieces; nothing of it is seen before the last."""
    piece, done = max(_PIECE_BYTES, _PIECE_RECORDS * singles[-1].path.stat().st_size), 0
    for work in _merging(singles, path, link, piece):
        done += work
        if done >= piece:
            done = 0
            yield


def _merging(singles: list[ShardFile], path: Path, link: Link, piece: int) -> Iterator[int]:
    """Record by record narrowed, array by array packed, then published; yields the bytes that were worked on."""
    parts = [open_arrays(file.path, keep=False, verify=False) for file in singles]
    names = dict.fromkeys(name for part in parts for name in part if not name.startswith(STATE_PREFIX))
    arrays = {name: written(parts[-1][name], packed=True) for name in parts[-1] if name.startswith(STATE_PREFIX)}
    record = singles[-1].path.stat().st_size
    for finished in narrowing(list(names), _Records(parts)):
        yield 0 if finished else record
        for name, array in finished.items():
            arrays[name] = yield from writing(array)
    for _ in publishing_shard(path, arrays, link, piece):
        yield piece


class _Records:
    """The records of single shards, one after the other."""

    def __init__(self, parts: Sequence[StoredArrays]) -> None:
        self._parts = parts
        self.count = len(parts)

    def dtype(self, name: str) -> np.dtype[Any]:
        """The type of all rows together; where some are missing, that of nan."""
        missing = np.dtype(np.float64)
        return np.result_type(*(part.kind(name).dtype if name in part else missing for part in self._parts))

    def row(self, name: str, number: int) -> np.ndarray[Any, Any]:
        """What one of the shards has."""
        shapes = [part.kind(name).shape for part in self._parts if name in part]
        width = max((shape[1] for shape in shapes if len(shape) == 2), default=None)
        part = self._parts[number]
        return _filled(part, name, part.get(name), width)


def merged(parts: Sequence[Mapping[str, np.ndarray[Any, Any]]]) -> Arrays:
    """Shards put one after the other: rows stacked, gaps nan, the laws' state of the last record alone."""
    names = dict.fromkeys(name for part in parts for name in part if not name.startswith(STATE_PREFIX))
    out = {name: stacked(parts, name) for name in names}
    out |= {name: array for name, array in parts[-1].items() if name.startswith(STATE_PREFIX)}
    return out


def stacked(parts: Sequence[Mapping[str, np.ndarray[Any, Any]]], name: str) -> np.ndarray[Any, Any]:
    """One array over all parts; a part without it gives nan rows, a width of 1 stands for any width."""
    known = [part.get(name) for part in parts]
    width = max((a.shape[1] for a in known if a is not None and a.ndim == 2), default=None)
    return np.concatenate([_filled(part, name, array, width) for part, array in zip(parts, known, strict=True)])


def _filled(
    part: Mapping[str, np.ndarray[Any, Any]], name: str, array: np.ndarray[Any, Any] | None, width: int | None
) -> np.ndarray[Any, Any]:
    """An array of a part, `width` entries a row; nan where the part lacks it."""
    rows = f"{DRIVE_PREFIX}step" if name.startswith(DRIVE_PREFIX) else "step"
    count = len(part[rows]) if rows in part else 0
    shape = (count,) if width is None else (count, width)
    return np.broadcast_to(np.float64(np.nan) if array is None else array, shape)


def _sound(file: ShardFile) -> bool:
    try:
        read_shard(file.path)
    except CorruptShardError:
        return False
    return True
