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
from neuralmechanics.experiments.data.folders import pixels

_TABLES = ("*.parquet", "*.arrow")
# A folder without a card names its splits as the library guesses from the files' names.
_TEST_SPLITS = ("validation", "valid", "val", "test")


def hub_split(
    repository: str, split: str, columns: tuple[str, str], shape: tuple[int, int, int], margin: float
) -> Split:
    """`split` of `repository` with its `columns` of images and labels, the images as bytes of `shape`.

    Raises `LookupError` when the data set can be had neither from the local cache nor from the hub.
    """
    key = f"hf-{repository.replace('/', '--')}-{split}-{shape[1]}-{shape[0]}-v1"
    if (cache_folder() / key).is_dir():
        return cached_images(key, 0, shape, lambda: ())
    return _decoded(key, _loaded(repository, split), columns, shape, margin)


def local_splits(
    root: Path, test_split: str, columns: tuple[str, str], shape: tuple[int, int, int], margin: float
) -> tuple[Split, Split] | None:
    """Training and test images of a data set copied from the hub (or saved by `datasets`) to `root`.

    None where `root` holds no Parquet or Arrow files. Raises `ValueError` for a missing split or column.
    """
    files = sorted(path for pattern in _TABLES for path in root.rglob(pattern)) if root.is_dir() else []
    if not files:
        return None
    states = [f"{path}:{(found := path.stat()).st_size}:{found.st_mtime_ns}" for path in files]
    fingerprint = crc32("\n".join(states).encode())
    keys = [f"hf-local-{part}-{shape[1]}-{shape[0]}-{margin:.3f}-{fingerprint:08x}" for part in ("train", "test")]
    if all((cache_folder() / key).is_dir() for key in keys):
        train, test = (cached_images(key, 0, shape, lambda: ()) for key in keys)
        return train, test
    try:
        tables = _loaded(str(root), None, saved=(root / "dataset_dict.json").is_file())
    except LookupError as error:
        raise ValueError(f"cannot read the data set in {str(root)!r}: {error}") from None
    names = list(tables)
    test_name = next((name for name in (test_split, *_TEST_SPLITS) if name in names), None)
    if "train" not in names or test_name is None:
        raise ValueError(f"{str(root)!r} must hold the splits 'train' and {test_split!r}, it holds {', '.join(names)}")
    train, test = (
        _decoded(key, tables[name], columns, shape, margin)
        for key, name in zip(keys, ("train", test_name), strict=True)
    )
    return train, test


def _decoded(key: str, rows: Any, columns: tuple[str, str], shape: tuple[int, int, int], margin: float) -> Split:
    image, label = columns
    present = getattr(rows, "column_names", None)
    if present is not None and not {image, label} <= set(present):
        raise ValueError(f"the data set must have the columns {image!r} and {label!r}, it has {', '.join(present)}")

    def examples() -> Iterator[tuple[np.ndarray[Any, Any], int]]:
        for row in rows:
            yield pixels(row[image], shape[1], shape[0], margin), int(row[label])

    return cached_images(key, len(rows), shape, examples)


def _loaded(repository: str, split: str | None, *, saved: bool = False) -> Any:
    try:
        import datasets
    except ImportError:
        raise LookupError("the package datasets is not installed") from None
    try:
        with _quiet("huggingface_hub"):
            return datasets.load_from_disk(repository) if saved else datasets.load_dataset(repository, split=split)
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
