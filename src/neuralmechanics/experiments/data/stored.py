"""A data set of one's own as one file of tensors, so that every process of a sweep trains on the same examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from neuralmechanics.experiments.data.dataset import DataSet, Split
from neuralmechanics.files import read_regular
from neuralmechanics.monitor.store.atomic import publish

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["STORED", "store_data", "stored_data"]

STORED = "data.safetensors"


def store_data(data: DataSet, folder: Path) -> None:
    """Publish the examples in a folder; `ValueError` where others lie there: a sweep has one set of examples."""
    from safetensors.torch import save

    told = {"name": data.name, "classes": data.classes, "mean": list(data.mean), "std": list(data.std)}
    content = save(_tensors(data), metadata={"data": json.dumps(told)})
    path = folder / STORED
    if path.exists():
        if read_regular(path, path.stat().st_size) != content:
            raise ValueError(f"{str(path)!r} holds other examples than those given; give the sweep another folder")
        return
    publish(path, content)


def stored_data(folder: Path, name: str) -> DataSet | None:
    """The examples called `name` that lie in a folder, or None."""
    from safetensors.torch import load

    path = folder / STORED
    if not path.is_file():
        return None
    content = read_regular(path, path.stat().st_size)
    # Its loader gives tensors alone; the words beside them stand in a JSON text, whose length comes first.
    length = int.from_bytes(content[:8], "little")
    told = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["data"])
    if told["name"] != name:
        return None
    parts = load(content)
    train, test = (Split(parts[f"{split}.inputs"], parts[f"{split}.labels"]) for split in ("train", "test"))
    return DataSet(name, train, test, told["classes"], tuple(told["mean"]), tuple(told["std"]))


def _tensors(data: DataSet) -> dict[str, Tensor]:
    parts = {"train": data.train, "test": data.test}
    return {
        f"{name}.{of}": getattr(split, of).contiguous().clone()
        for name, split in parts.items()
        for of in ("inputs", "labels")
    }
