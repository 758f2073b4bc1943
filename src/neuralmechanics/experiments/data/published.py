"""MNIST, CIFAR, Tiny ImageNet, ImageNet and image folders: what each is, and where each may lie."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from neuralmechanics.experiments.config import ImageConfig
from neuralmechanics.experiments.data.dataset import DataSet, Split
from neuralmechanics.experiments.data.readers.cifar import CIFAR10_FILES, CIFAR100_FILES, cifar_splits
from neuralmechanics.experiments.data.readers.folders import decoded, folder_files
from neuralmechanics.experiments.data.readers.hub import hub_split, local_splits
from neuralmechanics.experiments.data.readers.idx import FILES, idx_splits

_IMAGENET_MARGIN = 8 / 7  # 256 for 224 pixels


@dataclass(frozen=True)
class Source:
    """One published data set: its numbers, its place on the hub, and its files when it lies in a folder."""

    name: str
    classes: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    repository: str
    test_split: str
    columns: tuple[str, str]
    files: str
    margin: float = 1.0
    binary: Callable[[Path], tuple[Split, Split] | None] | None = None


SOURCES = {
    source.name: source
    for source in (
        Source(
            "mnist",
            10,
            28,
            (0.1307,),
            (0.3081,),
            "ylecun/mnist",
            "test",
            ("image", "label"),
            ", ".join(FILES) + " (or .gz)",
            binary=lambda root: idx_splits(root, 10, 28),
        ),
        Source(
            "cifar10",
            10,
            32,
            (0.4914, 0.4822, 0.4465),
            (0.2470, 0.2435, 0.2616),
            "uoft-cs/cifar10",
            "test",
            ("img", "label"),
            ", ".join(CIFAR10_FILES),
            binary=lambda root: cifar_splits(root, 10),
        ),
        Source(
            "cifar100",
            100,
            32,
            (0.5071, 0.4865, 0.4409),
            (0.2673, 0.2564, 0.2762),
            "uoft-cs/cifar100",
            "test",
            ("img", "fine_label"),
            ", ".join(CIFAR100_FILES),
            binary=lambda root: cifar_splits(root, 100),
        ),
        Source(
            "tiny-imagenet",
            200,
            64,
            (0.480, 0.448, 0.397),
            (0.276, 0.269, 0.282),
            "zh-plus/tiny-imagenet",
            "valid",
            ("image", "label"),
            "train/<class>/images/*.JPEG and val/ with val_annotations.txt",
        ),
        Source(
            "imagenet",
            1000,
            224,
            (0.485, 0.456, 0.406),
            (0.229, 0.224, 0.225),
            "ILSVRC/imagenet-1k",
            "validation",
            ("image", "label"),
            "train/<class>/*.JPEG and val/<class>/*.JPEG",
            _IMAGENET_MARGIN,
        ),
    )
}


def published(name: str, images: ImageConfig) -> DataSet:
    """The published data set `name` from `images.root`, `$NEURALMECHANICS_DATA`/`name`, or the Hugging Face cache."""
    source = SOURCES[name]
    size = images.size or source.size
    root = Path(images.root) if images.root is not None else _usual_root(name)
    if root is None:
        return DataSet(name, *_from_hub(source, size), source.classes, source.mean, source.std)
    found = source.binary(root) if source.binary else None
    if found is not None:
        _refuse_size(images, source)
        return DataSet(name, *found, source.classes, source.mean, source.std)
    shape = (len(source.mean), size, size)
    found = local_splits(root, source.test_split, source.columns, shape, source.margin, source.classes)
    if found is not None:
        return DataSet(name, *found, source.classes, source.mean, source.std)
    files = None if source.binary else folder_files(root)
    if files is None:
        raise ValueError(
            f"no {name} in {str(root)!r}: it must hold {source.files}, or the Parquet files of {source.repository}"
        )
    train, test = (
        decoded(f"{name}-{part}", of_part, size, shape[0], margin=source.margin)
        for part, of_part in (("train", files[0]), ("test", files[1]))
    )
    return DataSet(name, train, test, files[2], source.mean, source.std)


def _usual_root(name: str) -> Path | None:
    given = os.environ.get("NEURALMECHANICS_DATA")
    return Path(given) / name if given and (Path(given) / name).is_dir() else None


def image_folder(images: ImageConfig) -> DataSet:
    """Any folder of class folders at `images.root`; mean and deviation are measured on its first thousand images."""
    if images.root is None:
        raise ValueError("data 'folder' needs images.root: a folder with one folder of images a class")
    files = folder_files(Path(images.root))
    if files is None:
        raise ValueError(f"no class folders with images in {images.root!r}")
    size = images.size or 64
    train = decoded("folder-train", files[0], size, 3)
    sample = train.inputs[torch.linspace(0, len(train) - 1, min(1000, len(train))).long()].double() / 255
    mean = tuple(sample.mean((0, 2, 3)).tolist())
    std = tuple(sample.std((0, 2, 3)).clamp_min(1e-3).tolist())
    return DataSet("folder", train, decoded("folder-test", files[1], size, 3), files[2], mean, std)


def _from_hub(source: Source, size: int) -> tuple[Split, Split]:
    shape = (len(source.mean), size, size)
    try:
        train, test = (
            hub_split(source.repository, split, source.columns, shape, source.margin, source.classes)
            for split in ("train", source.test_split)
        )
    except LookupError as error:
        raise ValueError(
            f"{source.name} is not here ({error}); put {source.files} in a folder and give it as images.root (or "
            f"call it {source.name} and set NEURALMECHANICS_DATA to the folder around it), or, with a network, run: "
            f"pip install 'neuralmechanics[data]' && "
            f'python -c "import datasets; datasets.load_dataset({source.repository!r})"'
        ) from None
    return train, test


def _refuse_size(images: ImageConfig, source: Source) -> None:
    if images.size not in (None, source.size):
        raise ValueError(f"images.size: the binary files of {source.name} hold {source.size} pixels, not {images.size}")
