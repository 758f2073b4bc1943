"""Images in folders: one folder a class, as ImageNet, Tiny ImageNet and everyone's own collections have them."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from neuralmechanics.experiments.data.cache import cached_images
from neuralmechanics.experiments.data.dataset import Split
from neuralmechanics.experiments.data.readers.pictures import SUFFIXES, UNREAD, Cut, picture_file
from neuralmechanics.experiments.data.readers.tree import Place

_TRAIN_NAMES = ("train", "training")
# A folder of tests may hold pictures whose classes nobody is told, one for validation may not.
_VALIDATION_NAMES, _TEST_NAMES = ("val", "valid", "validation"), ("test", "testing")
# Without a test folder, every so many-th image of a class is kept for testing.
_HELD_OUT = 10
_TABLE_BYTES = 64 << 20
# Tiny ImageNet's table of classes.
CLASS_LIST = "wnids.txt"
# The tables that name the class of every picture of one flat folder: Tiny ImageNet's, and ImageNet's as Kaggle has it.
_ANNOTATIONS, _SOLUTION = "val_annotations.txt", "LOC_val_solution.csv"


@dataclass(frozen=True)
class Files:
    """Image files with their class numbers."""

    paths: tuple[Place, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Pictures:
    """The image files of a data set: training, test (None where no folder is set apart), names of the classes."""

    train: Files
    test: Files | None
    classes: tuple[str, ...]


def train_folder(root: Place) -> Place | None:
    """The folder of training images that a data set sets apart, however it is spelled; None where there is none."""
    return _named(root, _TRAIN_NAMES)


def class_list(root: Place) -> tuple[str, ...] | None:
    """The classes that Tiny ImageNet's table of them lists; None where there is no such table."""
    table = root / CLASS_LIST
    return tuple(_text(table).split()) if table.is_file() else None


def picture_files(root: Place) -> Pictures | None:
    """The image files below `root`, a folder a class; None if there are no class folders with images.

    Understands `train/<class>/…` with `val`, `valid`, `validation` or `test` beside it (by class, or flat with Tiny
    ImageNet's `val_annotations.txt` or ImageNet's `LOC_val_solution.csv`), files below `<class>/images/` too, and
    plain `<class>/…`. Classes are numbered in the order of their names. Raises `ValueError` for a class that is
    tested and not trained, and for pictures that belong to no class.
    """
    train_root = train_folder(root) or root
    classes = tuple(folder.name for folder in train_root.folders())
    train = _by_class(train_root, classes)
    if not train.paths:
        return None
    _require_in_classes(train_root)
    if train_root == root:
        apart = [name for name in classes if name.lower() in (*_TRAIN_NAMES, *_VALIDATION_NAMES, *_TEST_NAMES)]
        if apart:
            raise ValueError(f"{str(root)!r} has a folder {apart[0]!r} and no folder 'train' beside it")
        return Pictures(train, None, classes)
    for names in (_VALIDATION_NAMES, _TEST_NAMES):
        folder = _named(root, names)
        if folder is not None:
            test = _annotated(folder, classes) or _by_class(folder, classes)
            if test.paths or names is _VALIDATION_NAMES:
                _require_known(folder, classes)
            if test.paths:
                return Pictures(train, test, classes)
    return Pictures(train, None, classes)


def held_out(files: Files) -> tuple[Files, Files]:
    """All but every tenth image of each class, and those; `ValueError` where no class has ten."""
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


def decoded(name: str, files: Files, cut: Cut) -> Split:
    """The images of `files` as bytes of `cut.shape`, decoded once, cached by `name` and the state of the files."""
    state = [path.state() for path in files.paths]
    fingerprint = crc32("\n".join(map(str, zip(state, files.labels, strict=True))).encode())
    key = f"{name}-{cut.key}-{len(files.paths)}-{fingerprint:08x}"
    return cached_images(key, len(files.paths), cut.shape, lambda: _examples(files, cut))


def _examples(files: Files, cut: Cut) -> Iterator[tuple[np.ndarray[Any, Any], int]]:
    for path, label in zip(files.paths, files.labels, strict=True):
        yield picture_file(path, cut), label


def _named(root: Place, names: Sequence[str]) -> Place | None:
    """The folder of one of these names, in any case of letters; `ValueError` where there are two: which is meant?"""
    found = [folder for folder in root.folders() if folder.name.lower() in names]
    if len(found) > 1:
        raise ValueError(
            f"{str(root)!r} has both {found[0].name!r} and {found[1].name!r}; keep the one that is meant, or join them"
        )
    return found[0] if found else None


def _images(folder: Place) -> list[Place]:
    below = folder.below()
    unread = [path for path in below if path.name.lower().endswith(tuple(UNREAD))]
    if unread:
        raise ValueError(f"{str(unread[0])!r} is a picture of a kind that is not read; save it as PNG or JPEG")
    return [path for path in below if path.name.lower().endswith(tuple(SUFFIXES))]


def _require_in_classes(folder: Place) -> None:
    """`ValueError` for a picture that lies beside the folders of the classes."""
    stray = _pictures_of(folder)
    if stray:
        raise ValueError(
            f"{str(stray[0])!r} lies in no folder of a class, and no table such as {_ANNOTATIONS} names its class; put "
            "it in one, or take it away"
        )


def _pictures_of(folder: Place) -> list[Place]:
    return [path for path in folder.files() if path.name.lower().endswith(tuple(SUFFIXES | UNREAD))]


def _by_class(folder: Place, classes: Sequence[str]) -> Files:
    paths: list[Place] = []
    labels: list[int] = []
    _require_apart(folder)
    present = {place.name for place in folder.folders()}
    for label, name in enumerate(classes):
        found = _images(folder / name) if name in present else []
        paths += found
        labels += [label] * len(found)
    return Files(tuple(paths), tuple(labels))


def _require_apart(folder: Place) -> None:
    """`ValueError` for a class whose folder is a link to another's: its pictures would be of two classes."""
    own = folder.folders(linked=False)
    linked = [place for place in folder.folders() if place not in own]
    first = {os.path.realpath(str(place)): place for place in reversed((*own, *linked))}
    for place in linked:
        if (other := first[os.path.realpath(str(place))]) != place:
            raise ValueError(
                f"{str(place)!r} is a link to {str(other)!r}, whose pictures would be of two classes; put the class's "
                "own pictures there, or take the link away"
            )


def _require_known(folder: Place, classes: Sequence[str]) -> None:
    """`ValueError` for a folder of test images whose class is not among the training folders."""
    others = [place for place in folder.folders() if place.name not in classes]
    unknown = [place.name for place in others if place.name != "images"]
    if unknown:
        raise ValueError(f"{str(folder)!r} holds the class {unknown[0]!r}, which no folder of training images has")
    if (folder / _ANNOTATIONS).is_file() or _solution(folder) is not None:
        return
    for place in (folder, *others):
        _require_in_classes(place)


def _annotated(folder: Place, classes: Sequence[str]) -> Files | None:
    """Test images of one flat folder, in the order of the table that names their classes; None without a table."""
    if _pictures_of(folder / "images") and (folder / _ANNOTATIONS).is_file():
        table = folder / _ANNOTATIONS
        _require_in_classes(folder)
        rows = [[cell.strip() for cell in line.split("\t")] for line in _text(table).splitlines() if line.strip()]
        return _of_rows(folder / "images", table, [(row[0], row[1] if len(row) > 1 else "") for row in rows], classes)
    solution = _solution(folder)
    if solution is None or not _pictures_of(folder):
        return None
    table = solution
    solved = [row for row in csv.reader(_text(table).splitlines()) if len(row) == 2][1:]
    # The class comes before the corners of its box.
    pairs = [(f"{image}.JPEG", box.split(" ")[0]) for image, box in solved]
    return _of_rows(folder, table, pairs, classes)


def _solution(folder: Place) -> Place | None:
    """The table of ImageNet's test classes in a folder above."""
    above = folder.parent
    while not (above / _SOLUTION).is_file():
        if above.parent == above:
            return None
        above = above.parent
    return above / _SOLUTION


def _text(table: Place) -> str:
    return table.read(_TABLE_BYTES).decode("utf-8-sig", errors="replace")


def _of_rows(folder: Place, table: Place, rows: Sequence[tuple[str, str]], classes: Sequence[str]) -> Files:
    numbers = {name: label for label, name in enumerate(classes)}
    seen = set()
    for name, label in rows:
        if label not in numbers:
            raise ValueError(f"{str(table)!r} names no class of the training folders in {f'{name} {label}'.strip()!r}")
        if any(mark in name for mark in "/\\\0") or name in ("", ".", ".."):
            raise ValueError(
                f"{str(table)!r} names the file {name!r}; it must name files in its folder {folder.name!r}"
            )
        if name in seen:
            raise ValueError(f"{str(table)!r} names the file {name!r} twice")
        seen.add(name)
    unnamed = [path.name for path in _pictures_of(folder) if path.name not in seen]
    if unnamed:
        raise ValueError(f"{str(table)!r} does not name {unnamed[0]!r}, which lies in its folder {folder.name!r}")
    return Files(tuple(folder / name for name, _ in rows), tuple(numbers[label] for _, label in rows))
