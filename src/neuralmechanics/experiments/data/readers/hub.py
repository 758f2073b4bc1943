"""Data sets in Hugging Face's format: from its cache, the hub where there is a network, or a folder; decoded once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from neuralmechanics.experiments.data.cache import cache_folder, cached_images
from neuralmechanics.experiments.data.dataset import Split
from neuralmechanics.experiments.data.readers.pictures import picture_bytes, pixels
from neuralmechanics.experiments.data.readers.tables import count_rows, rows, split_of, table_files

# Names that the files of a test split may have where the hub's own name is another.
_TEST_SPLITS = ("validation", "valid", "val", "test")


def hub_split(
    repository: str, split: str, columns: tuple[str, str], shape: tuple[int, int, int], margin: float, classes: int
) -> Split:
    """`split` of `repository` with its `columns` of images and labels, the images as bytes of `shape`.

    Raises `LookupError` when the data set can be had neither from the local cache nor from the hub.
    """
    key = f"hf-{repository.replace('/', '--')}-{split}-{shape[1]}-{shape[0]}-v1"
    # A cached split needs neither the hub nor the package that asks it.
    if (cache_folder() / key).is_dir():
        return cached_images(key, 0, shape, lambda: ())
    found = _loaded(repository, split)
    image, label = columns
    present = getattr(found, "column_names", None)
    if present is not None and not {image, label} <= set(present):
        raise ValueError(f"the data set must have the columns {image!r} and {label!r}, it has {', '.join(present)}")

    def examples() -> Iterator[tuple[np.ndarray[Any, Any], int]]:
        for row in found:
            number = int(row[label])
            if not 0 <= number < classes:
                raise ValueError(
                    f"{repository!r} holds the label {number}, which is none of the classes 0 to {classes - 1}"
                )
            yield pixels(row[image], shape[1], shape[0], margin), number

    return cached_images(key, len(found), shape, examples)


def local_splits(
    root: Path,
    test_split: str,
    columns: tuple[str, str],
    shape: tuple[int, int, int],
    margin: float,
    classes: int,
) -> tuple[Split, Split] | None:
    """Training and test images of a data set copied from the hub (or saved by `datasets`) to `root`.

    Its Parquet and Arrow files alone are read: a card that points elsewhere, a script, a picture outside the files
    are not followed. None where `root` holds no such files. Raises `ValueError` for a missing split or column.
    """
    files = table_files(root) if root.is_dir() else []
    if not files:
        return None
    by_split: dict[str, list[Path]] = {}
    for path in files:
        by_split.setdefault(split_of(path, root) or "unnamed", []).append(path)
    test_name = next((name for name in (test_split, *_TEST_SPLITS) if name in by_split), None)
    if "train" not in by_split or test_name is None:
        held = ", ".join(by_split)
        raise ValueError(f"{str(root)!r} must hold the splits 'train' and {test_split!r}, it holds {held}")
    train, test = (
        _local(name, by_split[split], columns, shape, margin, classes)
        for name, split in (("train", "train"), ("test", test_name))
    )
    return train, test


def _local(
    name: str, paths: Sequence[Path], columns: tuple[str, str], shape: tuple[int, int, int], margin: float, classes: int
) -> Split:
    states = [f"{path}:{(found := path.stat()).st_size}:{found.st_mtime_ns}" for path in paths]
    fingerprint = crc32("\n".join(states).encode())
    key = f"hf-local-{name}-{shape[1]}-{shape[0]}-{margin:.3f}-{columns[1]}-{fingerprint:08x}"
    if (cache_folder() / key).is_dir():
        return cached_images(key, 0, shape, lambda: ())

    def examples() -> Iterator[tuple[np.ndarray[Any, Any], int]]:
        for row in rows(paths, columns, classes):
            yield picture_bytes(row.image, row.name, shape[1], shape[0], margin), row.label

    return cached_images(key, count_rows(paths, columns), shape, examples)


def _loaded(repository: str, split: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise LookupError("the package datasets is not installed") from None
    try:
        with _quiet("huggingface_hub"):
            return datasets.load_dataset(repository, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        raise LookupError(_first_line(error)) from None


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without the warnings of each retry: what cannot be had is said once, by whoever asked."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _first_line(error: Exception) -> str:
    lines: Sequence[str] = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
