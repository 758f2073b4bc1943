"""MNIST, CIFAR, Tiny ImageNet and ImageNet in one table: what each is, and the files in which it is published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from neuralmechanics.experiments.data.dataset import Split
from neuralmechanics.experiments.data.readers.cifar import CIFAR10_FILES, CIFAR100_FILES, cifar_splits
from neuralmechanics.experiments.data.readers.idx import FILES, idx_splits

_IMAGE = ("image", "label")
_BY_CLASS = "train/<class>/*.JPEG and val/<class>/*.JPEG"
_ANNOTATED = "train/<class>/images/*.JPEG and val/ with val_annotations.txt"


@dataclass(frozen=True)
class Source:
    """One published data set: its numbers, its place on the hub, and its files when it lies in a folder.

    `columns` are those of image and label in its tables; `margin` is how much larger than `size` a picture is scaled
    before its centre is cut out; `binary` reads the publisher's own files, None where those are pictures.
    """

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

    def shape(self, size: int | None) -> tuple[int, int, int]:
        """Channels, height and width of an image, at `size` pixels or the usual ones."""
        return len(self.mean), size or self.size, size or self.size


# fmt: off
SOURCES = {
    "mnist": Source(
        10, 28, (0.1307,), (0.3081,),
        "ylecun/mnist", "test", _IMAGE, ", ".join(FILES) + " (or .gz)",
        binary=partial(idx_splits, classes=10, size=28),
    ),
    "cifar10": Source(
        10, 32, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
        "uoft-cs/cifar10", "test", ("img", "label"), ", ".join(CIFAR10_FILES),
        binary=partial(cifar_splits, classes=10),
    ),
    "cifar100": Source(
        100, 32, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762),
        "uoft-cs/cifar100", "test", ("img", "fine_label"), ", ".join(CIFAR100_FILES),
        binary=partial(cifar_splits, classes=100),
    ),
    "tiny-imagenet": Source(
        200, 64, (0.480, 0.448, 0.397), (0.276, 0.269, 0.282),
        "zh-plus/tiny-imagenet", "valid", _IMAGE, _ANNOTATED,
    ),
    "imagenet": Source(
        1000, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225),
        "ILSVRC/imagenet-1k", "validation", _IMAGE, _BY_CLASS,
        margin=8 / 7,  # 256 for 224 pixels
    ),
}
# fmt: on
