"""Parquet and Arrow files of a local folder, read as files: nothing beside them is followed, nothing is fetched."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from neuralmechanics.experiments.data.readers.tree import Place

_SUFFIXES = (".parquet", ".arrow")
_DEEPEST = 8
_BATCH = 64
# An image and its label take more bytes than this in a file; a file that promises more rows is no data set.
_FEWEST_BYTES_A_ROW = 8
_READERS_ERRORS = (ValueError, OSError, TypeError, LookupError, ArithmeticError, NotImplementedError, MemoryError)
_WORDS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "validation": "validation",
    "valid": "valid",
    "val": "val",
    "dev": "validation",
}


@dataclass(frozen=True)
class Row:
    """One example as a file holds it: the picture's bytes, its label, and what an error calls it."""

    image: bytes
    label: int
    name: str


def table_files(folder: Place) -> list[Place]:
    """The table files below a folder, sorted; `ValueError` for a link that leads out of the data set."""
    found: list[Place] = []
    waiting = [(folder, 0)]
    while waiting:
        where, depth = waiting.pop()
        found += [file for file in where.files() if file.name.endswith(_SUFFIXES)]
        waiting += [(below, depth + 1) for below in where.folders(linked=False)] if depth < _DEEPEST else []
    return sorted(found, key=lambda place: place.path)


def split_of(path: str) -> str | None:
    """The split that a file belongs to, by the first word of its name, or of a folder above it, that means one.

    >>> split_of("data/train-00000-of-00001.parquet"), split_of("plain_text/test/0000.parquet")
    ('train', 'test')
    """
    for part in reversed(PurePosixPath(path).with_suffix("").parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _WORDS:
                return _WORDS[word]
    return None


def count_rows(paths: Sequence[Place], columns: tuple[str, str]) -> int:
    """How many examples the files hold; `ValueError` for a file that is damaged or lacks a column."""
    total = 0
    for path in paths:
        with _naming(path), path.open() as file:
            count, names = _described(file, path)
            if count * _FEWEST_BYTES_A_ROW > file.seek(0, os.SEEK_END):
                raise ValueError(f"it promises {count} rows, more than its bytes can hold")
            if not set(columns) <= set(names):
                wanted = f"{columns[0]!r} and {columns[1]!r}"
                raise ValueError(f"the data set must have the columns {wanted}, it has {', '.join(names)}")
        total += count
    return total


def rows(paths: Sequence[Place], columns: tuple[str, str], classes: int) -> Iterator[Row]:
    """The examples of the files, one after another, a few in memory at a time."""
    for path in paths:
        number = 0
        with _naming(path), path.open() as file:
            for batch in _batches(file, path, columns):
                for image, label in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
                    name = f"row {number} of {str(path)!r}"
                    yield Row(_bytes(image, columns[0], number), _label(label, classes, number), name)
                    number += 1


class _naming:  # noqa: N801 - used as a statement
    """What goes wrong with a table inside the block is a `ValueError` that names its file."""

    def __init__(self, path: Place) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _READERS_ERRORS):
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"cannot read the data set in {str(self._path)!r}: {reason}") from None


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise ValueError("reading Parquet needs pyarrow: pip install 'neuralmechanics[data]'") from None
    return pyarrow


def _described(file: Any, path: Place) -> tuple[int, list[str]]:
    pyarrow = _pyarrow()
    if path.name.endswith(".parquet"):
        metadata = pyarrow.parquet.ParquetFile(file)
        return metadata.metadata.num_rows, list(metadata.schema_arrow.names)
    with pyarrow.ipc.open_stream(file) as reader:
        # A stream of Arrow does not announce its rows: it is read through.
        return sum(batch.num_rows for batch in reader), list(reader.schema.names)


def _batches(file: Any, path: Place, columns: tuple[str, str]) -> Iterator[Any]:
    pyarrow = _pyarrow()
    # Offsets that a damaged file holds are followed unseen, out of its memory, unless they are checked first.
    if path.name.endswith(".parquet"):
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=_BATCH, columns=list(columns)):
            batch.validate(full=True)
            yield batch
        return
    with pyarrow.ipc.open_stream(file) as reader:
        for batch in reader:
            batch.validate(full=True)
            for start in range(0, batch.num_rows, _BATCH):
                yield batch.slice(start, _BATCH)


def _bytes(image: Any, column: str, number: int) -> bytes:
    """The bytes of a picture as the hub's files embed them: alone, or with the name they once had."""
    content = image.get("bytes") if isinstance(image, dict) else image
    if not isinstance(content, bytes):
        raise ValueError(f"column {column!r} of row {number} holds no picture; pictures outside the file are not read")
    return content


def _label(label: Any, classes: int, number: int) -> int:
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < classes:
        raise ValueError(f"row {number} has the label {label!r}, which is none of the classes 0 to {classes - 1}")
    return label
