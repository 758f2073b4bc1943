"""Writers of the published data formats, byte by byte, with random content, and the numbers that small copies have."""

from __future__ import annotations

import gzip
import pickle
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from neuralmechanics.experiments import ImageConfig, load_data
from neuralmechanics.experiments.data import DataSet
from neuralmechanics.experiments.data.sources import SOURCES, Count

RANDOM = np.random.default_rng(0)

# Classes, training and test images of what the writers below write.
SIZES = {
    "mnist": (10, Count(40), Count(12)),
    "cifar10": (10, Count(100, 10), Count(20, 2)),
    "cifar100": (20, Count(40, 2), Count(20, 1)),
    "tiny-imagenet": (4, Count(24, 6), Count(4, 1)),
    "imagenet": (2, Count(8), Count(4, 2)),
}
SMALL = {
    name: replace(SOURCES[name], classes=classes, train=train, test=test)
    for name, (classes, train, test) in SIZES.items()
}


def load_small(name: str, root: Path | None, **options: object) -> DataSet:
    """Data set `name` from a small copy below `root`, held to the small copy's numbers."""
    images = ImageConfig(root=None if root is None else str(root), **options)  # type: ignore[arg-type]
    return load_data(name, images, sources=SMALL)


def random_images(count: int, channels: int, size: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, channels, size, size), dtype=np.uint8)


def write_mnist(
    root: Path, train: int = 40, test: int = 12, *, zipped: bool = False, dotted: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    root.mkdir(parents=True, exist_ok=True)
    images = random_images(train + test, 1, 28)[:, 0]
    labels = np.arange(train + test, dtype=np.uint8) % 10
    for name, part in (("train", slice(0, train)), ("t10k", slice(train, None))):
        for kind, array in (("images-idx3", images[part]), ("labels-idx1", labels[part])):
            header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            content = header + array.tobytes()
            path = root / f"{name}-{kind.replace('-idx', '.idx') if dotted else kind}-ubyte"
            if zipped:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)
    return images, labels


def cifar_parts(classes: int) -> list[tuple[str, np.ndarray, list[int]]]:
    """Name, images and labels of each file of a small CIFAR: 20 images a file of CIFAR-10, 40 and 20 of CIFAR-100."""
    if classes == 10:
        names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
        return [(name, random_images(20, 3, 32), [k % 10 for k in range(20)]) for name in names]
    return [(name, random_images(n, 3, 32), [k % 20 for k in range(n)]) for name, n in (("train", 40), ("test", 20))]


def write_cifar(root: Path, classes: int) -> np.ndarray:
    """The binary version."""
    root.mkdir(parents=True, exist_ok=True)
    parts = cifar_parts(classes)
    for name, images, labels in parts:
        content = b""
        for image, label in zip(images, labels, strict=True):
            content += (bytes([label]) if classes == 10 else bytes([label % 5, label])) + image.tobytes()
        (root / f"{name}.bin").write_bytes(content)
    return np.concatenate([images for _, images, _ in parts])


def write_cifar_python(root: Path, classes: int, form: str = "python2") -> np.ndarray:
    """The Python version: as it is published ("python2"), or as Python 3 pickles it again in any protocol."""
    root.mkdir(parents=True, exist_ok=True)
    parts = cifar_parts(classes)
    for name, images, labels in parts:
        flat = images.reshape(len(images), -1)
        if form == "python2":
            content = python2_batch(flat, labels, "labels" if classes == 10 else "fine_labels")
        else:
            batch = {"batch_label": name, "filenames": [f"{k}.png" for k in labels], "data": flat}
            batch |= {"labels": labels} if classes == 10 else {"coarse_labels": [k % 5 for k in labels]}
            batch |= {} if classes == 10 else {"fine_labels": labels}
            content = pickle.dumps({k.encode(): v for k, v in batch.items()}, protocol=int(form))
        (root / name).write_bytes(content)
    return np.concatenate([images for _, images, _ in parts])


def python2_batch(flat: np.ndarray, labels: list[int], name: str) -> bytes:
    """A batch in the words that Python 2's pickle wrote, as in the published files: byte strings throughout."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    rows, columns = flat.shape
    content = flat.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85q\tU\x01bq\n\x87q\x0bRq\x0c"
    array += b"(K\x01" + b"M" + struct.pack("<H", rows) + b"M" + struct.pack("<H", columns) + b"\x86q\r"
    array += b"cnumpy\ndtype\nq\x0eU\x02u1q\x0fK\x00K\x01\x87q\x10Rq\x11(K\x03U\x01|q\x12NNN"
    array += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x13b"
    array += b"\x89T" + struct.pack("<i", len(content)) + content + b"q\x14tq\x15b"
    listed = b"]q\x05(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return (
        b"\x80\x02}q\x01(" + text("batch_label") + b"q\x02" + text("training batch") + b"q\x03"
        + text(name) + b"q\x04" + listed + text("data") + b"q\x06" + array + b"u."
    )  # fmt: skip


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.transpose(1, 2, 0)).save(path)


def write_tiny_imagenet(root: Path, classes: int = 4, each: int = 6, *, order: tuple[int, ...] = ()) -> np.ndarray:
    """As published: images below train/<id>/images, one flat folder val with its table, test without labels.

    `order` is that of the ids in `wnids.txt` and in the table, which need not be sorted.
    """
    images = random_images(classes * each + classes, 3, 64)
    names = [f"n{100 + label:08d}" for label in range(classes)]
    for index in range(classes * each):
        name = names[index % classes]
        write_image(root / "train" / name / "images" / f"{name}_{index // classes}.png", images[index])
    lines = []
    for label in order or range(classes):
        write_image(root / "val" / "images" / f"val_{label}.png", images[classes * each + label])
        lines.append(f"val_{label}.png\t{names[label]}\t0\t0\t63\t63")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    (root / "wnids.txt").write_text("\n".join(names[label] for label in order or range(classes)))
    write_image(root / "test" / "images" / "test_0.png", images[0])
    return images


def write_image_folder(root: Path, size: int = 40, classes: int = 3, each: int = 10) -> np.ndarray:
    images = random_images(classes * each, 3, size)
    for index, image in enumerate(images):
        write_image(root / f"class{index // each}" / f"{index % each:02d}.png", image)
    return images


def write_imagenet(root: Path, size: int = 48) -> np.ndarray:
    """Two classes by folder: eight images to train, four to test."""
    images = random_images(12, 3, size)
    for index, image in enumerate(images):
        write_image(root / ("val" if index < 4 else "train") / f"n{index % 2}" / f"{index:02d}.png", image)
    return images


def zip_folder(folder: Path, path: Path, inside: str = "") -> Path:
    """The files of a folder as a zip, below the folder `inside` of it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, f"{inside}{file.relative_to(folder)}")
    return path


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
    classes, train_count, test_count = SIZES[name]
    channels, size = (1, 28) if name == "mnist" else (3, 64 if name == "tiny-imagenet" else 32)
    parts = {}
    for split, count in ((train, train_count.images), (test, test_count.images)):
        images = random_images(count, channels, size)
        pictures = [Image.fromarray(x[0] if channels == 1 else x.transpose(1, 2, 0)) for x in images]
        labels = [k % classes for k in range(count)]
        features = {image: datasets.Image(), label: datasets.ClassLabel(names=[str(k) for k in range(classes)])}
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
