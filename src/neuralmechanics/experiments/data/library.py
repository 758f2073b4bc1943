"""Data sets by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial

from neuralmechanics.experiments.config import ImageConfig
from neuralmechanics.experiments.data.dataset import DataSet
from neuralmechanics.experiments.data.digits import digits
from neuralmechanics.experiments.data.published import image_folder, published
from neuralmechanics.experiments.data.sequences import sequences
from neuralmechanics.experiments.data.sources import SOURCES
from neuralmechanics.experiments.data.textures import textures


def _digits(images: ImageConfig) -> DataSet:
    _refuse(images, "digits", "root", "size")
    return digits()


def _textures(images: ImageConfig) -> DataSet:
    _refuse(images, "textures", "root")
    return textures(images.train_limit or 20_000, images.test_limit or 2_000, images.size or 64)


def _sequences(images: ImageConfig) -> DataSet:
    _refuse(images, "sequences", "root", "size")
    return sequences(images.train_limit or 4096, images.test_limit or 512)


def _refuse(images: ImageConfig, name: str, *options: str) -> None:
    for option in options:
        if getattr(images, option) is not None:
            raise ValueError(f"images.{option} has no effect on {name!r}, which is made, not read; leave it out")


_LOADERS: dict[str, Callable[[ImageConfig], DataSet]] = {
    "digits": _digits,
    "textures": _textures,
    "sequences": _sequences,
    **{name: partial(published, name) for name in SOURCES},
    "folder": image_folder,
}


def data_names() -> tuple[str, ...]:
    """Every data set that `load_data` knows."""
    return tuple(_LOADERS)


def load_data(name: str, images: ImageConfig | None = None) -> DataSet:
    """The data set `name`, decoded from where `images` says, limited as it says.

    Raises `ValueError` for an unknown name (with the nearest), and for missing data the exact command or folder
    that would provide it.
    """
    images = images or ImageConfig()
    if name not in _LOADERS:
        nearest = difflib.get_close_matches(name, data_names(), n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown data {name!r}; the nearest known name is {nearest!r}")
    return _LOADERS[name](images).limited(images.train_limit, images.test_limit)
