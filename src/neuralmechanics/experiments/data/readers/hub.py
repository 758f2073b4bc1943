"""Data sets in Hugging Face's format: its own cache, or a copy of a repository, read as files and decoded once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from neuralmechanics.experiments.data.cache import cache_folder, cached_images
from neuralmechanics.experiments.data.dataset import Split
from neuralmechanics.experiments.data.readers.pictures import Cut, picture_bytes
from neuralmechanics.experiments.data.readers.tables import count_rows, rows, split_of, table_files
from neuralmechanics.experiments.data.readers.tree import Place

# Names that the files of a test split may have where the hub's own name is another.
_TEST_SPLITS = ("validation", "valid", "val", "test")


@dataclass(frozen=True)
class Tables:
    """The files of a data set's two splits, and how they are read."""

    train: tuple[Place, ...]
    test: tuple[Place, ...]
    columns: tuple[str, str]

    def counts(self) -> tuple[int, int]:
        """Number of training and test examples, as the files announce them; no file may be there twice."""
        _require_distinct((*self.train, *self.test))
        return count_rows(self.train, self.columns), count_rows(self.test, self.columns)

    def decoded(self, cut: Cut, classes: int) -> tuple[Split, Split]:
        """Their images as bytes of `cut.shape`, and their labels."""
        train, test = (
            _local(name, paths, self.columns, cut, classes)
            for name, paths in (("train", self.train), ("test", self.test))
        )
        return train, test


def table_splits(folder: Place, test_split: str, columns: tuple[str, str]) -> Tables | None:
    """The files of a data set copied from the hub (or saved by `datasets`) to `folder`.

    Its Parquet and Arrow files alone are read: a card that points elsewhere, a script, a picture outside the files
    are not followed. None where `folder` holds no such files. Raises `ValueError` for a missing split.
    """
    by_split: dict[str, list[Place]] = {}
    for path in table_files(folder):
        by_split.setdefault(split_of(path.path.removeprefix(folder.path)) or "unnamed", []).append(path)
    if not by_split:
        return None
    test_name = next((name for name in (test_split, *_TEST_SPLITS) if name in by_split), None)
    if "train" not in by_split or test_name is None:
        held = ", ".join(by_split)
        raise ValueError(f"{str(folder)!r} must hold the splits 'train' and {test_split!r}, it holds {held}")
    return Tables(tuple(by_split["train"]), tuple(by_split[test_name]), columns)


def _require_distinct(paths: Sequence[Place]) -> None:
    """`ValueError` where a file is a copy of another, by which a split would still be as large as published."""
    sizes: dict[int, list[Place]] = {}
    for path in paths:
        with path.open() as file:
            sizes.setdefault(file.seek(0, os.SEEK_END), []).append(path)
    for alike in sizes.values():
        first: dict[bytes, Place] = {}
        for path in alike if len(alike) > 1 else ():
            with path.open() as file:
                content = hashlib.file_digest(file, "blake2b").digest()  # type: ignore[arg-type]
            if content in first:
                raise ValueError(f"{str(path)!r} is a copy of {str(first[content])!r}; get the files afresh")
            first[content] = path


def _local(name: str, paths: Sequence[Place], columns: tuple[str, str], cut: Cut, classes: int) -> Split:
    fingerprint = crc32("\n".join(path.state() for path in paths).encode())
    key = f"hf-local-{name}-{cut.key}-{columns[1]}-{fingerprint:08x}"
    if (cache_folder() / key).is_dir():
        # It is there and only opened: to count its rows would be to read Arrow files from end to end.
        return cached_images(key, 0, cut.shape, lambda: ())

    def examples() -> Iterator[tuple[np.ndarray[Any, Any], int]]:
        for row in rows(paths, columns, classes):
            yield picture_bytes(row.image, row.name, cut), row.label

    return cached_images(key, count_rows(paths, columns), cut.shape, examples)
