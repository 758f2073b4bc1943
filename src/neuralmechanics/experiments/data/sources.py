"""MNIST, CIFAR, Tiny ImageNet and ImageNet in one table: how large each is, and the files in which it is published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_IMAGE = ("image", "label")
_IDX = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (or .gz)"
_CIFAR10 = "data_batch_1 to data_batch_5 and test_batch (or .bin)"
_CIFAR100 = "train and test (or .bin)"
_BY_CLASS = "train/<class>/*.JPEG and val/<class>/*.JPEG"
_ANNOTATED = "train/<class>/images/*.JPEG and val/ with val_annotations.txt"


@dataclass(frozen=True)
class Count:
    """How many images a part of a data set has, and how many of them each class has: one number where all have as many.

    By the numbers of MNIST's classes it is told from the data sets that were made to take the place of its files.
    """

    images: int
    each: int | tuple[int, ...] | None = None


@dataclass(frozen=True)
class Source:
    """One published data set: its numbers, its place on the hub, and its files when it lies in a folder.

    `train` and `test` are what any copy must hold. `columns` are those of image and label in its tables; `files` is
    what a message asks for; `own_names` are names in small letters that its folder or archive has; `margin` is how
    much larger than `size` a picture is scaled before its centre is cut out; `one_size` says that every published
    picture has `size` pixels in both directions; `arrays` is the format of the publisher's own files where those are no
    pictures.
    """

    classes: int
    train: Count
    test: Count
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    repository: str
    test_split: str
    columns: tuple[str, str]
    files: str
    own_names: tuple[str, ...]
    margin: float = 1.0
    one_size: bool = True
    arrays: Literal["idx", "cifar10", "cifar100"] | None = None

    def shape(self, size: int | None) -> tuple[int, int, int]:
        """Channels, height and width of an image, at `size` pixels or the usual ones."""
        return len(self.mean), size or self.size, size or self.size


# fmt: off
SOURCES = {
    "mnist": Source(
        10, Count(60_000, (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)),
        Count(10_000, (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)), 28, (0.1307,), (0.3081,),
        "ylecun/mnist", "test", _IMAGE, _IDX, ("mnist", "raw"), arrays="idx",
    ),
    "cifar10": Source(
        10, Count(50_000, 5_000), Count(10_000, 1_000), 32, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
        "uoft-cs/cifar10", "test", ("img", "label"), _CIFAR10,
        ("cifar10", "cifar-10", "cifar-10-batches-py", "cifar-10-batches-bin", "cifar-10-python", "cifar-10-binary"),
        arrays="cifar10",
    ),
    "cifar100": Source(
        100, Count(50_000, 500), Count(10_000, 100), 32, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762),
        "uoft-cs/cifar100", "test", ("img", "fine_label"), _CIFAR100,
        ("cifar100", "cifar-100", "cifar-100-python", "cifar-100-binary"), arrays="cifar100",
    ),
    "tiny-imagenet": Source(
        200, Count(100_000, 500), Count(10_000, 50), 64, (0.480, 0.448, 0.397), (0.276, 0.269, 0.282),
        "zh-plus/tiny-imagenet", "valid", _IMAGE, _ANNOTATED,
        ("tiny-imagenet", "tiny-imagenet-200", "tiny_imagenet_200", "tiny-imagenet200", "tinyimagenet"),
    ),
    "imagenet": Source(
        1000, Count(1_281_167), Count(50_000, 50), 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225),
        "ILSVRC/imagenet-1k", "validation", _IMAGE, _BY_CLASS,
        ("imagenet", "imagenet-1k", "imagenet1k", "ilsvrc2012", "ilsvrc", "data", "cls-loc"),
        one_size=False, margin=8 / 7,  # 256 for 224 pixels
    ),
}
# fmt: on
