"""Writers of the published data formats, byte by byte, with random content."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from PIL import Image

RANDOM = np.random.default_rng(0)


def random_images(count: int, channels: int, size: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, channels, size, size), dtype=np.uint8)


def write_mnist(root: Path, train: int = 40, test: int = 12, *, zipped: bool = False) -> tuple[np.ndarray, np.ndarray]:
    images = random_images(train + test, 1, 28)[:, 0]
    labels = np.arange(train + test, dtype=np.uint8) % 10
    for name, part in (("train", slice(0, train)), ("t10k", slice(train, None))):
        for kind, array in (("images-idx3", images[part]), ("labels-idx1", labels[part])):
            header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            content = header + array.tobytes()
            path = root / f"{name}-{kind}-ubyte"
            if zipped:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)
    return images, labels


def write_cifar(root: Path, classes: int) -> np.ndarray:
    names = (
        [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]
        if classes == 10
        else ["train.bin", "test.bin"]
    )
    images = random_images(8 * len(names), 3, 32)
    for index, name in enumerate(names):
        content = b""
        for k in range(8 * index, 8 * index + 8):
            content += (bytes([k % 10]) if classes == 10 else bytes([k % 20, k % 100])) + images[k].tobytes()
        (root / name).write_bytes(content)
    return images


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.transpose(1, 2, 0)).save(path)


def write_tiny_imagenet(root: Path, classes: int = 4, each: int = 6) -> np.ndarray:
    images = random_images(classes * each + classes, 3, 64)
    names = [f"n{100 + label:08d}" for label in range(classes)]
    for index in range(classes * each):
        name = names[index % classes]
        write_image(root / "train" / name / "images" / f"{name}_{index // classes}.png", images[index])
    lines = []
    for label, name in enumerate(names):
        write_image(root / "val" / "images" / f"val_{label}.png", images[classes * each + label])
        lines.append(f"val_{label}.png\t{name}\t0\t0\t63\t63")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    return images


def write_image_folder(root: Path, size: int = 40, classes: int = 3, each: int = 10) -> np.ndarray:
    images = random_images(classes * each, 3, size)
    for index, image in enumerate(images):
        write_image(root / f"class{index // each}" / f"{index % each:02d}.png", image)
    return images


# Columns and splits as the hub has them: repository of each published data set, its image and label column.
HUB = {
    "mnist": ("train", "test", "image", "label"),
    "cifar10": ("train", "test", "img", "label"),
    "cifar100": ("train", "test", "img", "fine_label"),
    "tiny-imagenet": ("train", "valid", "image", "label"),
    "imagenet": ("train", "validation", "image", "label"),
}


def write_hub(root: Path, name: str, *, saved: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Data set `name` as a copy of its hub repository, `data/<split>-00000-of-00001.parquet`, or as `save_to_disk`."""
    import datasets

    train, test, image, label = HUB[name]
    channels, size = (1, 28) if name == "mnist" else (3, 64 if name == "tiny-imagenet" else 32)
    parts = {}
    for split, count in ((train, 8), (test, 4)):
        images = random_images(count, channels, size)
        pictures = [Image.fromarray(x[0] if channels == 1 else x.transpose(1, 2, 0)) for x in images]
        labels = [k % 4 for k in range(count)]
        features = {image: datasets.Image(), label: datasets.ClassLabel(names=list("abcd"))}
        content = {image: pictures, label: labels}
        if name == "cifar100":
            features["coarse_label"] = datasets.ClassLabel(names=list("xy"))
            content["coarse_label"] = [k % 2 for k in range(count)]
        parts[split] = (images, datasets.Dataset.from_dict(content, features=datasets.Features(features)))
    if saved:
        datasets.DatasetDict({split: table for split, (_, table) in parts.items()}).save_to_disk(root)
    else:
        for split, (_, table) in parts.items():
            (root / "data").mkdir(parents=True, exist_ok=True)
            table.to_parquet(root / "data" / f"{split}-00000-of-00001.parquet")
    return parts[train][0], parts[test][0]
