"""CIFAR's binary files: one or two label bytes, then 3072 bytes of 3×32×32 pixels, record after record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from neuralmechanics.experiments.data.dataset import Split, require_labels
from neuralmechanics.files import read_regular

_PIXELS = 3 * 32 * 32
# Twice the largest file that is published.
_MOST_BYTES = 320 << 20
CIFAR10_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
CIFAR100_FILES = ("train.bin", "test.bin")


def read_cifar(path: Path, label_bytes: int, classes: int) -> Split:
    """The records of one file; the last label byte counts (CIFAR-100: coarse label, then fine label)."""
    content = np.frombuffer(read_regular(path, _MOST_BYTES), np.uint8)
    width = label_bytes + _PIXELS
    # The files have no header: their length is all that can be checked before the labels.
    if len(content) == 0 or len(content) % width:
        raise ValueError(f"{str(path)!r} is no CIFAR file: {len(content)} bytes are not records of {width}")
    records = content.reshape(-1, width)
    labels = records[:, label_bytes - 1].astype(np.int64)
    require_labels(labels, classes, path)
    images = torch.from_numpy(records[:, label_bytes:].reshape(-1, 3, 32, 32).copy())
    return Split(images, torch.from_numpy(labels))


def cifar_splits(root: Path, classes: int) -> tuple[Split, Split] | None:
    """Training and test split from the binary files in `root` or its usual subfolder; None if they are not there."""
    names = CIFAR10_FILES if classes == 10 else CIFAR100_FILES
    subfolder = "cifar-10-batches-bin" if classes == 10 else "cifar-100-binary"
    for folder in (root, root / subfolder):
        if all((folder / name).exists() for name in names):
            parts = [read_cifar(folder / name, 1 if classes == 10 else 2, classes) for name in names]
            return _joined(parts[:-1]), parts[-1]
    return None


def _joined(parts: Sequence[Split]) -> Split:
    return Split(torch.cat([part.inputs for part in parts]), torch.cat([part.labels for part in parts]))
