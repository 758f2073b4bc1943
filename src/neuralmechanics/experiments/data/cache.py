"""Decoded data sets on disk: uncompressed arrays mapped into memory, so that no epoch decodes anything twice."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.experiments.data.dataset import Split


def cache_folder() -> Path:
    """`$NEURALMECHANICS_CACHE`, or `neuralmechanics` under the user's cache folder."""
    given = os.environ.get("NEURALMECHANICS_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "neuralmechanics"


def cached(key: str, make: Callable[[], Split]) -> Split:
    """The split stored under `key`, made and stored on first use; memory-mapped copy-on-write."""
    folder = cache_folder() / key
    if not folder.is_dir():
        split = make()
        with _publish(folder) as target:
            np.save(target.path / "inputs.npy", split.inputs.numpy())
            np.save(target.path / "labels.npy", split.labels.numpy())
    return _open(folder)


def cached_images(
    key: str, count: int, shape: tuple[int, int, int], examples: Callable[[], Iterable[tuple[np.ndarray, int]]]
) -> Split:
    """As `cached`, for more images than memory holds: `count` images of `shape` are written one by one."""
    folder = cache_folder() / key
    if not folder.is_dir():
        with _publish(folder) as target:
            inputs = np.lib.format.open_memmap(
                target.path / "inputs.npy", mode="w+", dtype=np.uint8, shape=(count, *shape)
            )
            labels = np.empty(count, dtype=np.int64)
            for index, (image, label) in enumerate(examples()):
                inputs[index], labels[index] = image, label
            inputs.flush()
            np.save(target.path / "labels.npy", labels)
    return _open(folder)


class _publish:  # noqa: N801 - used as a statement
    """A scratch folder that becomes `folder` by one rename if the block succeeds, and vanishes if not."""

    def __init__(self, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.path = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))

    def __enter__(self) -> _publish:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None and not self.folder.is_dir():
            try:
                self.path.rename(self.folder)
            except OSError:
                # Another process published the same content in the meantime; ours is then superfluous.
                if not self.folder.is_dir():
                    raise
        shutil.rmtree(self.path, ignore_errors=True)


def _open(folder: Path) -> Split:
    return Split(_map(folder / "inputs.npy"), _map(folder / "labels.npy"))


def _map(path: Path) -> Tensor:
    # Copy-on-write: torch refuses to promise anything about read-only memory, and nothing writes to these.
    return torch.from_numpy(np.load(path, mmap_mode="c"))
