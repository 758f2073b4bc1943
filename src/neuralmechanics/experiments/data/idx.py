"""MNIST's own files: the IDX format, plain or gzipped (LeCun; magic 0x0000 08 <dimensions>, big-endian sizes)."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuralmechanics.experiments.data.dataset import Split

_UNSIGNED_BYTE = 8
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def read_idx(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The array of unsigned bytes in an IDX file; `ValueError` if it is something else or cut short."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise ValueError(f"{str(path)!r} is no IDX file of unsigned bytes")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", content[4:start]) if len(content) >= start else ()
    if not shape or len(content) - start != int(np.prod(shape)):
        raise ValueError(f"{str(path)!r} is cut short or has rests: its header promises {'×'.join(map(str, shape))}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def idx_splits(root: Path) -> tuple[Split, Split] | None:
    """Training and test split from the four files in `root` (or `root`/MNIST/raw); None if they are not there."""
    for folder in (root, root / "MNIST" / "raw", root / "raw"):
        paths = [path for name in FILES for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
        if {path.name.removesuffix(".gz") for path in paths} == set(FILES):
            by_name = {path.name.removesuffix(".gz"): path for path in reversed(paths)}
            arrays = [read_idx(by_name[name]) for name in FILES]
            return _split(arrays[0], arrays[1], folder), _split(arrays[2], arrays[3], folder)
    return None


def _split(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], folder: Path) -> Split:
    if len(images) != len(labels) or images.ndim != 3:
        raise ValueError(f"{str(folder)!r} holds {images.shape} images for {len(labels)} labels")
    return Split(torch.from_numpy(images[:, None]), torch.from_numpy(labels.astype(np.int64)))
