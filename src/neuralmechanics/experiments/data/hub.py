"""Data sets from the Hugging Face cache (or hub, where there is a network), decoded once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from neuralmechanics.experiments.data.cache import cache_folder, cached_images
from neuralmechanics.experiments.data.dataset import Split
from neuralmechanics.experiments.data.folders import pixels


def hub_split(repository: str, split: str, image: str, label: str, shape: tuple[int, int, int], margin: float) -> Split:
    """`split` of `repository` with its columns `image` and `label` as bytes of `shape`.

    Raises `LookupError` when the data set can be had neither from the local cache nor from the hub.
    """
    key = f"hf-{repository.replace('/', '--')}-{split}-{shape[1]}-{shape[0]}-v1"
    if (cache_folder() / key).is_dir():
        return cached_images(key, 0, shape, lambda: ())
    rows = _rows(repository, split)

    def examples() -> Iterator[tuple[np.ndarray[Any, Any], int]]:
        for row in rows:
            yield pixels(row[image], shape[1], shape[0], margin), int(row[label])

    return cached_images(key, len(rows), shape, examples)


def _rows(repository: str, split: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise LookupError("the package datasets is not installed") from None
    try:
        return datasets.load_dataset(repository, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        raise LookupError(str(error).splitlines()[0] if str(error) else type(error).__name__) from None
