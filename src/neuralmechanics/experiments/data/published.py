"""Published data sets and image folders: one table of the forms that a data set comes in, each held to its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from neuralmechanics.experiments.config import ImageConfig
from neuralmechanics.experiments.data.counts import (
    repeated_tests,
    require_apart,
    require_counts,
    require_listed,
    require_own_classes,
    require_total,
)
from neuralmechanics.experiments.data.dataset import DataSet, Split
from neuralmechanics.experiments.data.readers.cifar import CIFAR10, CIFAR100, cifar_splits
from neuralmechanics.experiments.data.readers.folders import (
    CLASS_LIST,
    Pictures,
    class_list,
    decoded,
    held_out,
    picture_files,
    train_folder,
)
from neuralmechanics.experiments.data.readers.hub import table_splits
from neuralmechanics.experiments.data.readers.idx import idx_splits
from neuralmechanics.experiments.data.readers.pictures import Cut
from neuralmechanics.experiments.data.sources import SOURCES, Source
from neuralmechanics.experiments.data.whereabouts import Found, candidates, find_root, opened

if TYPE_CHECKING:
    from neuralmechanics.experiments.data.readers.tree import Place

_FOLDER_SIZE = 64
_MEASURED = 1000


@dataclass(frozen=True)
class _Wanted:
    """A data set as it is asked for: what it is called, its source, and in which size."""

    name: str
    source: Source
    size: int | None


class _Form(Protocol):
    """Reads one form that a data set comes in: training and test examples; None if it does not lie in `place`."""

    def __call__(self, wanted: _Wanted, place: Place) -> tuple[Split, Split] | None: ...


def _publishers_files(wanted: _Wanted, place: Place) -> tuple[Split, Split] | None:
    source = wanted.source
    if source.arrays is None:
        return None
    if source.arrays == "idx":
        found = idx_splits(place, source.classes, source.size)
    else:
        found = cifar_splits(place, CIFAR10 if source.arrays == "cifar10" else CIFAR100, source.classes)
    if found is not None and wanted.size not in (None, source.size):
        raise ValueError(f"images.size: the files of {wanted.name} hold {source.size} pixels, not {wanted.size}")
    return found


def _tables(wanted: _Wanted, place: Place) -> tuple[Split, Split] | None:
    source = wanted.source
    found = table_splits(place, source.test_split, source.columns)
    if found is None:
        return None
    # Before they are decoded, which may take an hour.
    for part, count, rows in zip(("training", "test"), (source.train, source.test), found.counts(), strict=True):
        require_total(wanted.name, source, place, part, rows, count)
    return found.decoded(_cut(wanted), source.classes)


def _pictures(wanted: _Wanted, place: Place) -> tuple[Split, Split] | None:
    source = wanted.source
    # Their publishers give arrays: pictures in such a folder are something else.
    if source.arrays is not None or train_folder(place) is None:
        return None
    found = picture_files(place)
    if found is None:
        return None
    if found.test is None:
        raise ValueError(
            f"{wanted.name}: {str(place)!r} has no folder 'val' with images and their classes beside 'train'"
        )
    for part, count, files in (("training", source.train, found.train), ("test", source.test, found.test)):
        require_counts(wanted.name, source, place, part, torch.tensor(files.labels), count, found.classes)
    listed = class_list(place)
    if listed is not None:
        require_listed(wanted.name, source, place, CLASS_LIST, listed, found.classes)
    require_own_classes(
        wanted.name, source, place, [path.name for path in found.train.paths], found.train.labels, found.classes
    )
    return _decoded(wanted.name, found, _cut(wanted))


# In the order in which a folder is tried.
_FORMS: tuple[_Form, ...] = (_publishers_files, _pictures, _tables)


def published(name: str, images: ImageConfig, sources: Mapping[str, Source] = SOURCES) -> DataSet:
    """The published data set `name` from where `find_root` finds it, whole: as many classes and images as published.

    The folder may hold it in one subfolder, or archive, of the data set's own name. Raises `ValueError` for a copy that
    is not whole, with what was found and the remedy.
    """
    source = sources[name]
    where = find_root(name, images, source)
    wanted = _Wanted(name, source, images.size)
    with ExitStack() as stack:
        root = opened(where, stack)
        for place in candidates(root, source, stack):
            for form in _FORMS:
                found = form(wanted, place)
                if found is None:
                    continue
                for part, count, split in zip(("training", "test"), (source.train, source.test), found, strict=True):
                    require_counts(name, source, place, part, split.labels, count)
                require_apart(name, source, place, *found)
                return DataSet(name, *found, source.classes, source.mean, source.std)
        held = [place.name for place in (*root.folders(), *root.files())]
    shown = f"{', '.join(held[:3])}{f' and {len(held) - 3} more' if len(held) > 3 else ''}" or "nothing"
    raise ValueError(
        f"no {name} in {str(root)!r}, which holds {shown}: it must hold {source.files}, or the Parquet files of "
        f"{source.repository}"
    )


def _cut(wanted: _Wanted) -> Cut:
    source = wanted.source
    channels, size, _ = source.shape(wanted.size)
    return Cut(channels, size, source.margin, source.size if source.one_size else None)


def image_folder(images: ImageConfig) -> DataSet:
    """Any folder (or archive) of class folders; mean and deviation are measured on a thousand of its images."""
    if images.root is None:
        raise ValueError("data 'folder' needs images.root: a folder with one folder of images a class")
    with ExitStack() as stack:
        root = Path(images.root)
        found = picture_files(opened(Found(root), stack)) if root.exists() else None
        if found is None:
            raise ValueError(f"no class folders with images in {images.root!r}")
        if len(found.classes) < 2:
            raise ValueError(
                f"{images.root!r} has one class folder, {found.classes[0]!r}: nothing is to be told apart; give the "
                f"folder that holds 'train' and 'val', or one folder a class, as images.root"
            )
        empty = set(range(len(found.classes))) - set(found.train.labels)
        if empty:
            raise ValueError(
                f"{images.root!r} has no training picture in the folder {found.classes[min(empty)]!r}, which would be "
                "a class; take the folder away, or put the folders of the classes in one called 'train'"
            )
        train, test = _decoded("folder", found, Cut(3, images.size or _FOLDER_SIZE))
    if found.test is not None:
        repeated, looked = repeated_tests(train, test)
        if repeated > looked // 2:
            raise ValueError(
                f"{images.root!r} tests on what it trains: {repeated} of {looked} test images that were looked at are "
                "among the training images; give other pictures, or no test folder: a tenth is then kept for testing"
            )
    # Evenly spread, for the images are in the order of their classes.
    sample = train.inputs[torch.linspace(0, len(train) - 1, min(_MEASURED, len(train))).long()].double() / 255
    mean = tuple(sample.mean((0, 2, 3)).tolist())
    std = tuple(sample.std((0, 2, 3)).clamp_min(1e-3).tolist())
    return DataSet("folder", train, test, len(found.classes), mean, std)


def _decoded(name: str, found: Pictures, cut: Cut) -> tuple[Split, Split]:
    parts = held_out(found.train) if found.test is None else (found.train, found.test)
    train, test = (decoded(f"{name}-{part}", files, cut) for part, files in zip(("train", "test"), parts, strict=True))
    return train, test
