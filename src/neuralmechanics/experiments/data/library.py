"""Data sets by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from neuralmechanics.experiments.config import ImageConfig
from neuralmechanics.experiments.data.builtin.digits import digits
from neuralmechanics.experiments.data.builtin.sequences import sequences
from neuralmechanics.experiments.data.builtin.textures import textures
from neuralmechanics.experiments.data.dataset import DataSet
from neuralmechanics.experiments.data.own import own_data
from neuralmechanics.experiments.data.published import image_folder, published
from neuralmechanics.experiments.data.sources import SOURCES, Source


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
            raise ValueError(
                f"images.{option} has no effect on {name!r}, which is made, not read from there; leave it out"
            )


_LOADERS: dict[str, Callable[[ImageConfig], DataSet]] = {
    "digits": _digits,
    "textures": _textures,
    "sequences": _sequences,
    "folder": image_folder,
}


def data_names() -> tuple[str, ...]:
    """Every data set that `load_data` knows."""
    made = tuple(_LOADERS)
    return (*made[:-1], *SOURCES, made[-1])


def load_data(name: str, images: ImageConfig | None = None, *, sources: Mapping[str, Source] = SOURCES) -> DataSet:
    """The data set `name`, or the one that `package.module:factory` makes, from where `images` says, limited so.

    `sources` are the numbers that a published data set must have, by default those of its publisher. Raises
    `ValueError` for an unknown name (with the nearest), for missing data the exact command or folder that would
    provide it, and for a copy that is not whole.
    """
    images = images or ImageConfig()
    if ":" in name:
        _refuse(images, name, "root", "size")
        return own_data(name).limited(images.train_limit, images.test_limit)
    if name not in data_names():
        nearest = difflib.get_close_matches(name, data_names(), n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown data {name!r}; the nearest known name is {nearest!r}")
    found = published(name, images, sources) if name in SOURCES else _LOADERS[name](images)
    return found.limited(images.train_limit, images.test_limit)
