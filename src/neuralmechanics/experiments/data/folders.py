"""Images in folders: one folder a class, as ImageNet, Tiny ImageNet and everyone's own collections have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from neuralmechanics.experiments.data.cache import cached_images
from neuralmechanics.experiments.data.dataset import Split

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = frozenset((".jpeg", ".jpg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".tif", ".tiff"))
_TEST_NAMES = ("val", "valid", "validation", "test")
# Without a test folder, every so many-th image of a class is kept for testing.
_HELD_OUT = 10


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
    train = _by_class(train_root, classes)
    if len(train.paths) == 0:
        return None
    if train_root == root:
        return *_held_out(train), len(classes)
    for name in _TEST_NAMES:
        if (root / name).is_dir():
            test = _annotated(root / name, classes) or _by_class(root / name, classes)
            if test.paths:
                return train, test, len(classes)
    return *_held_out(train), len(classes)


def decoded(name: str, files: Files, size: int, channels: int, *, margin: float = 1.0) -> Split:
    """The images of `files` at `size` pixels, decoded once and cached under a key of `name` and the files' states."""
    state = [f"{path}:{(found := path.stat()).st_size}:{found.st_mtime_ns}" for path in files.paths]
    fingerprint = crc32("\n".join(map(str, zip(state, files.labels, strict=True))).encode())
    key = f"{name}-{size}-{channels}-{margin:.3f}-{len(files.paths)}-{fingerprint:08x}"
    return cached_images(
        key, len(files.paths), (channels, size, size), lambda: _examples(files, size, channels, margin)
    )


def pixels(image: Image, size: int, channels: int, margin: float) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """`[channels, size, size]` bytes: shorter side scaled to margin·size, then the centre."""
    from PIL import Image as Pillow

    image = image.convert("RGB" if channels == 3 else "L")
    if image.size != (size, size):
        scale = margin * size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Pillow.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)


def _examples(files: Files, size: int, channels: int, margin: float) -> Iterator[tuple[np.ndarray[Any, Any], int]]:
    try:
        from PIL import Image as Pillow
    except ImportError:
        raise ValueError("decoding images needs Pillow: pip install 'neuralmechanics[data]'") from None
    for path, label in zip(files.paths, files.labels, strict=True):
        try:
            with Pillow.open(path) as image:
                content = pixels(image, size, channels, margin)
        except OSError as error:
            raise ValueError(f"cannot decode {str(path)!r}: {error}") from None
        yield content, label


def _by_class(root: Path, classes: Sequence[str]) -> Files:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(path for path in (root / name).rglob("*") if path.suffix.lower() in _SUFFIXES)
        paths += found
        labels += [label] * len(found)
    return Files(tuple(paths), tuple(labels))


def _annotated(root: Path, classes: Sequence[str]) -> Files | None:
    """Tiny ImageNet's validation set: a table of file names and classes beside one folder `images`."""
    table = root / "val_annotations.txt"
    if not table.is_file() or not (root / "images").is_dir():
        return None
    numbers = {name: label for label, name in enumerate(classes)}
    rows = [line.split("\t") for line in table.read_text().splitlines() if line]
    for row in rows:
        if len(row) < 2 or row[1] not in numbers:
            raise ValueError(f"{str(table)!r} names no class of the training folders in {' '.join(row)!r}")
    return Files(tuple(root / "images" / row[0] for row in rows), tuple(numbers[row[1]] for row in rows))


def _held_out(files: Files) -> tuple[Files, Files]:
    seen: dict[int, int] = {}
    parts: tuple[list[int], list[int]] = ([], [])
    for index, label in enumerate(files.labels):
        seen[label] = seen.get(label, 0) + 1
        parts[seen[label] % _HELD_OUT == 0].append(index)
    train, test = (Files(tuple(files.paths[i] for i in part), tuple(files.labels[i] for i in part)) for part in parts)
    if not test.paths:
        raise ValueError(f"no class has {_HELD_OUT} images to keep one for testing; add a folder 'val' beside 'train'")
    return train, test
