"""Decoded data sets on disk: uncompressed arrays mapped into memory, so that no epoch decodes anything twice."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.experiments.data.dataset import Split
from neuralmechanics.monitor.store.atomic import make_folder, sync_folder

_PARTIAL = re.compile(r"\.partial-(\d+)-")


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
        with _publishing(folder) as partial:
            np.save(partial / "inputs.npy", split.inputs.numpy())
            np.save(partial / "labels.npy", split.labels.numpy())
    return _open(folder)


def cached_images(
    key: str, count: int, shape: tuple[int, int, int], examples: Callable[[], Iterable[tuple[np.ndarray, int]]]
) -> Split:
    """As `cached`, for more images than memory holds: `count` images of `shape` are written one by one."""
    folder = cache_folder() / key
    if not folder.is_dir():
        with _publishing(folder) as partial:
            inputs = np.lib.format.open_memmap(partial / "inputs.npy", mode="w+", dtype=np.uint8, shape=(count, *shape))
            labels = np.empty(count, dtype=np.int64)
            done = 0
            for image, label in examples():
                inputs[done], labels[done] = image, label
                done += 1
            if done != count:
                raise ValueError(f"{done} examples came where {count} were announced; the data set is damaged")
            inputs.flush()
            np.save(partial / "labels.npy", labels)
    return _open(folder)


@contextmanager
def _publishing(folder: Path) -> Iterator[Path]:
    """A scratch folder that becomes `folder` by one rename if the block succeeds, and vanishes if not."""
    make_folder(folder.parent)
    _remove_abandoned(folder.parent)
    partial = folder.with_name(f".partial-{os.getpid()}-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        # Content, names in the folder, its own name: each is on the disk before the next refers to it.
        for file in partial.iterdir():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
        sync_folder(partial)
        try:
            partial.rename(folder)
        except OSError:
            # Another process published the same content in the meantime; ours is then superfluous.
            if not folder.is_dir():
                raise
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(cache: Path) -> None:
    """Remove the scratch folders of processes that are no more."""
    for path in cache.iterdir():
        match = _PARTIAL.match(path.name)
        if match and int(match[1]) != os.getpid() and not _alive(int(match[1])):
            shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _open(folder: Path) -> Split:
    try:
        split = Split(_map(folder / "inputs.npy"), _map(folder / "labels.npy"))
        if len(split.inputs) != len(split.labels):
            raise ValueError(f"{len(split.inputs)} examples and {len(split.labels)} labels")
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise ValueError(f"the cached data set {str(folder)!r} is damaged ({error}); remove that folder") from None
    return split


def _map(path: Path) -> Tensor:
    # Copy-on-write: torch refuses to promise anything about read-only memory, and nothing writes to these.
    return torch.from_numpy(np.load(path, mmap_mode="c"))
