"""CIFAR's files: Python's pickled batches, or records of label bytes and 3072 bytes of 3×32×32 pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neuralmechanics.experiments.data.dataset import Split, require_labels
from neuralmechanics.experiments.data.readers.pickles import read_pickle
from neuralmechanics.experiments.data.readers.tree import Place

_PIXELS = 3 * 32 * 32
# Twice the largest file that is published.
_MOST_BYTES = 320 << 20


@dataclass(frozen=True)
class Layout:
    """How CIFAR-10 or CIFAR-100 is laid out: its files, the list of labels in Python's, label bytes in a record."""

    files: tuple[str, ...]
    labels: str
    label_bytes: int


CIFAR10 = Layout((*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"), "labels", 1)
CIFAR100 = Layout(("train", "test"), "fine_labels", 2)


def read_binary(file: Place, layout: Layout, classes: int) -> Split:
    """The records of one file; the last label byte counts (CIFAR-100: coarse label, then fine label)."""
    content = np.frombuffer(file.read(_MOST_BYTES), np.uint8)
    width = layout.label_bytes + _PIXELS
    # The files have no header: their length is all that can be checked before the labels.
    if len(content) == 0 or len(content) % width:
        raise ValueError(f"{str(file)!r} is no CIFAR file: {len(content)} bytes are not records of {width}")
    records = content.reshape(-1, width)
    return _split(records[:, layout.label_bytes :], records[:, layout.label_bytes - 1], classes, file)


def read_python(file: Place, layout: Layout, classes: int) -> Split:
    """The images and (fine) labels of one pickled batch, in which no word of the pickle is executed."""
    content = file.read(_MOST_BYTES)
    try:
        batch = read_pickle(content)
        images, labels = _fields(batch, layout.labels)
    except ValueError as error:
        raise ValueError(f"{str(file)!r} is no CIFAR batch: {error}") from None
    return _split(images, labels, classes, file)


def _fields(batch: Any, labels_name: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The array of images and the list of labels in a batch; its keys are texts, or bytes where Python 3 wrote it."""
    found = {} if not isinstance(batch, dict) else batch
    names = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in found.items()}
    images, labels = names.get("data"), names.get(labels_name)
    if not isinstance(images, np.ndarray) or images.ndim != 2 or images.shape[1] != _PIXELS:
        raise ValueError(f"it has no array 'data' of {_PIXELS} bytes an image")
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError(f"it has no list {labels_name!r} of whole numbers")
    if len(labels) != len(images) or not labels:
        raise ValueError(f"it has {len(images)} images for {len(labels)} labels")
    return images, np.array(labels, dtype=object)


def _split(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], classes: int, file: Place) -> Split:
    require_labels(labels, classes, file)
    pixels = np.ascontiguousarray(images.reshape(-1, 3, 32, 32)).copy()
    return Split(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)))


# Python's files first: they are what almost everybody has.
_VERSIONS: tuple[tuple[str, Callable[[Place, Layout, int], Split]], ...] = (("", read_python), (".bin", read_binary))


def cifar_splits(folder: Place, layout: Layout, classes: int) -> tuple[Split, Split] | None:
    """Training and test split from the files in `folder`; None if they are not there.

    Raises `ValueError` where only some of them are.
    """
    present = {file.name for file in folder.files()}
    for suffix, read in _VERSIONS:
        names = [f"{name}{suffix}" for name in layout.files]
        found = [name for name in names if name in present or (folder / name).is_folder()]
        # CIFAR-100's files, train and test, have the names of folders of pictures elsewhere.
        if not any(name in present for name in names):
            continue
        if len(found) < len(names):
            raise ValueError(f"{str(folder)!r} lacks {', '.join(sorted(set(names) - set(found)))}; unpack it afresh")
        parts = [read(folder / name, layout, classes) for name in names]
        _require_distinct(folder, names, parts)
        return _joined(parts[:-1]), parts[-1]
    return None


def _require_distinct(folder: Place, names: Sequence[str], parts: Sequence[Split]) -> None:
    """`ValueError` where a file is a copy of another, by which a class would still be as large as published."""
    first: dict[bytes, str] = {}
    for name, part in zip(names, parts, strict=True):
        content = hashlib.blake2b(part.inputs.numpy().tobytes()).digest()
        # Images without anything on them are as good in one file as in another.
        if content in first and bool((part.inputs != part.inputs[0, 0, 0, 0]).any()):
            raise ValueError(f"{str(folder)!r} has the same images in {name} as in {first[content]}; unpack it afresh")
        first.setdefault(content, name)


def _joined(parts: Sequence[Split]) -> Split:
    return Split(torch.cat([part.inputs for part in parts]), torch.cat([part.labels for part in parts]))
