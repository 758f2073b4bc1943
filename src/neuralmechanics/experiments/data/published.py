"""Published data sets and image folders, wherever they lie: one table of the forms that a data set comes in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from neuralmechanics.experiments.config import ImageConfig
from neuralmechanics.experiments.data.dataset import DataSet, Split
from neuralmechanics.experiments.data.readers.folders import decoded, folder_files
from neuralmechanics.experiments.data.readers.hub import hub_split, local_splits
from neuralmechanics.experiments.data.sources import SOURCES, Source

_FOLDER_SIZE = 64
_MEASURED = 1000


@dataclass(frozen=True)
class _Wanted:
    """A data set as it is asked for: what it is called, its source, where it lies and in which size."""

    name: str
    source: Source
    root: Path
    size: int | None


class _Form(Protocol):
    """Reads one form that a data set comes in: training and test examples and number of classes; None if not there."""

    def __call__(self, wanted: _Wanted) -> tuple[Split, Split, int] | None: ...


def _publishers_files(wanted: _Wanted) -> tuple[Split, Split, int] | None:
    source = wanted.source
    found = source.binary(wanted.root) if source.binary is not None else None
    if found is None:
        return None
    if wanted.size not in (None, source.size):
        raise ValueError(f"images.size: the binary files of {wanted.name} hold {source.size} pixels, not {wanted.size}")
    return *found, source.classes


def _tables(wanted: _Wanted) -> tuple[Split, Split, int] | None:
    source = wanted.source
    shape = source.shape(wanted.size)
    found = local_splits(wanted.root, source.test_split, source.columns, shape, source.margin, source.classes)
    return None if found is None else (*found, source.classes)


def _pictures(wanted: _Wanted) -> tuple[Split, Split, int] | None:
    # Their publishers give arrays: pictures in such a folder are something else.
    if wanted.source.binary is not None:
        return None
    channels, _, size = wanted.source.shape(wanted.size)
    return _by_folder(wanted.name, wanted.root, size, channels, wanted.source.margin)


# In the order in which a folder is tried.
_FORMS: tuple[_Form, ...] = (_publishers_files, _tables, _pictures)


def published(name: str, images: ImageConfig) -> DataSet:
    """The published data set `name` from `images.root`, `$NEURALMECHANICS_DATA`/`name`, or the Hugging Face cache."""
    source = SOURCES[name]
    root = Path(images.root) if images.root is not None else _usual_root(name)
    if root is None:
        train, test, classes = *_from_hub(name, source, images.size), source.classes
    else:
        wanted = _Wanted(name, source, root, images.size)
        found = next((found for form in _FORMS if (found := form(wanted)) is not None), None)
        if found is None:
            raise ValueError(
                f"no {name} in {str(root)!r}: it must hold {source.files}, or the Parquet files of {source.repository}"
            )
        train, test, classes = found
    return DataSet(name, train, test, classes, source.mean, source.std)


def _usual_root(name: str) -> Path | None:
    given = os.environ.get("NEURALMECHANICS_DATA")
    return Path(given) / name if given and (Path(given) / name).is_dir() else None


def image_folder(images: ImageConfig) -> DataSet:
    """Any folder of class folders at `images.root`; mean and deviation are measured on its first thousand images."""
    if images.root is None:
        raise ValueError("data 'folder' needs images.root: a folder with one folder of images a class")
    found = _by_folder("folder", Path(images.root), images.size or _FOLDER_SIZE, 3, 1.0)
    if found is None:
        raise ValueError(f"no class folders with images in {images.root!r}")
    train, test, classes = found
    sample = train.inputs[torch.linspace(0, len(train) - 1, min(_MEASURED, len(train))).long()].double() / 255
    mean = tuple(sample.mean((0, 2, 3)).tolist())
    std = tuple(sample.std((0, 2, 3)).clamp_min(1e-3).tolist())
    return DataSet("folder", train, test, classes, mean, std)


def _by_folder(name: str, root: Path, size: int, channels: int, margin: float) -> tuple[Split, Split, int] | None:
    files = folder_files(root)
    if files is None:
        return None
    *parts, classes = files
    train, test = (
        decoded(f"{name}-{part}", of_part, size, channels, margin=margin)
        for part, of_part in zip(("train", "test"), parts, strict=True)
    )
    return train, test, classes


def _from_hub(name: str, source: Source, size: int | None) -> tuple[Split, Split]:
    shape = source.shape(size)
    try:
        train, test = (
            hub_split(source.repository, split, source.columns, shape, source.margin, source.classes)
            for split in ("train", source.test_split)
        )
    except LookupError as error:
        raise ValueError(
            f"{name} is not here ({error}); put {source.files} in a folder and give it as images.root (or "
            f"call it {name} and set NEURALMECHANICS_DATA to the folder around it), or, with a network, run: "
            f"pip install 'neuralmechanics[data]' && "
            f'python -c "import datasets; datasets.load_dataset({source.repository!r})"'
        ) from None
    return train, test
