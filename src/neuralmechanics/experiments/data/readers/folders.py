"""Images in folders: one folder a class, as ImageNet, Tiny ImageNet and everyone's own collections have them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from neuralmechanics.experiments.data.cache import cached_images
from neuralmechanics.experiments.data.dataset import Split
from neuralmechanics.experiments.data.readers.pictures import SUFFIXES, picture_file
from neuralmechanics.files import inside, read_regular

_TEST_NAMES = ("val", "valid", "validation", "test")
# Without a test folder, every so many-th image of a class is kept for testing.
_HELD_OUT = 10
_DEEPEST = 32
_TABLE_BYTES = 64 << 20


@dataclass(frozen=True)
class Files:
    """Image files with their class numbers."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]


def folder_files(root: Path) -> tuple[Files, Files, int] | None:
    """Training files, test files and number of classes below `root`; None if there are no class folders with images.

    Understands `train/<class>/…` with `val`, `valid`, `validation` or `test` beside it (flat with Tiny ImageNet's
    `val_annotations.txt`, or by class), files below `<class>/images/` too, and plain `<class>/…`, of which every tenth
    image is then kept for testing.
    """
    if not root.is_dir():
        return None
    train_root = root / "train" if (root / "train").is_dir() else root
    classes = sorted(folder.name for folder in train_root.iterdir() if folder.is_dir())
    train = _by_class(train_root, classes, root)
    if len(train.paths) == 0:
        return None
    if train_root == root:
        return *_held_out(train), len(classes)
    for name in _TEST_NAMES:
        if (root / name).is_dir():
            test = _annotated(root / name, classes, root) or _by_class(root / name, classes, root)
            if test.paths:
                return train, test, len(classes)
    return *_held_out(train), len(classes)


def decoded(name: str, files: Files, size: int, channels: int, *, margin: float = 1.0) -> Split:
    """The images of `files` at `size` pixels, decoded once and cached under a key of `name` and the files' states."""
    state = [_state(path) for path in files.paths]
    fingerprint = crc32("\n".join(map(str, zip(state, files.labels, strict=True))).encode())
    key = f"{name}-{size}-{channels}-{margin:.3f}-{len(files.paths)}-{fingerprint:08x}"
    return cached_images(
        key, len(files.paths), (channels, size, size), lambda: _examples(files, size, channels, margin)
    )


def _state(path: Path) -> str:
    try:
        found = path.stat()
    except OSError as error:
        raise ValueError(f"cannot read the image {str(path)!r}: {error.strerror}") from None
    return f"{path}:{found.st_size}:{found.st_mtime_ns}"


def image_files(folder: Path, root: Path) -> list[Path]:
    """The image files below a folder of the data set at `root`, sorted; `ValueError` for a link that leads out."""
    found: list[Path] = []
    waiting = [(inside(root, folder.relative_to(root)), 0)]
    while waiting:
        where, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError(f"{str(folder)!r} has folders nested more than {_DEEPEST} deep; put its images higher up")
        with os.scandir(where) as entries:
            for entry in entries:
                path = where / entry.name
                if entry.is_symlink():
                    inside(root, path.relative_to(root))
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((path, depth + 1))
                elif path.suffix.lower() in SUFFIXES:
                    found.append(path)
    return sorted(found)


def _examples(files: Files, size: int, channels: int, margin: float) -> Iterator[tuple[np.ndarray[Any, Any], int]]:
    for path, label in zip(files.paths, files.labels, strict=True):
        yield picture_file(path, size, channels, margin), label


def _by_class(folder: Path, classes: Sequence[str], root: Path) -> Files:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = image_files(folder / name, root) if (folder / name).is_dir() else []
        paths += found
        labels += [label] * len(found)
    return Files(tuple(paths), tuple(labels))


def _annotated(folder: Path, classes: Sequence[str], root: Path) -> Files | None:
    """Tiny ImageNet's validation set: a table of file names and classes beside one folder `images`."""
    table = folder / "val_annotations.txt"
    if not table.exists() or not (folder / "images").is_dir():
        return None
    numbers = {name: label for label, name in enumerate(classes)}
    text = read_regular(inside(root, table.relative_to(root)), _TABLE_BYTES).decode("utf-8", errors="replace")
    rows = [line.split("\t") for line in text.splitlines() if line]
    for row in rows:
        if len(row) < 2 or row[1] not in numbers:
            raise ValueError(f"{str(table)!r} names no class of the training folders in {' '.join(row)!r}")
        if Path(row[0]).name != row[0] or row[0] == "..":
            raise ValueError(f"{str(table)!r} names the file {row[0]!r}; it must name files in its folder 'images'")
        inside(root, (folder / "images" / row[0]).relative_to(root))
    return Files(tuple(folder / "images" / row[0] for row in rows), tuple(numbers[row[1]] for row in rows))


def _held_out(files: Files) -> tuple[Files, Files]:
    seen: dict[int, int] = {}
    parts: tuple[list[int], list[int]] = ([], [])
    for index, label in enumerate(files.labels):
        seen[label] = seen.get(label, 0) + 1
        # Counted within each class, so that every class is tested.
        parts[seen[label] % _HELD_OUT == 0].append(index)
    train, test = (Files(tuple(files.paths[i] for i in part), tuple(files.labels[i] for i in part)) for part in parts)
    if not test.paths:
        raise ValueError(f"no class has {_HELD_OUT} images to keep one for testing; add a folder 'val' beside 'train'")
    return train, test
