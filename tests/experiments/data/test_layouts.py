"""Every layout in which a published data set lies on somebody's disk is read rightly: values and labels."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..formats import (
    load_small,
    random_images,
    write_cifar,
    write_cifar_python,
    write_hub,
    write_imagenet,
    write_mnist,
    write_tiny_imagenet,
    zip_folder,
)


def _tar(folder: Path, path: Path, inside: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, inside)
    return path


MNIST: dict[str, Callable[[Path], tuple[Path, np.ndarray]]] = {
    "plain": lambda root: (root, write_mnist(root)[0]),
    "gzipped": lambda root: (root, write_mnist(root, zipped=True)[0]),
    "dotted": lambda root: (root, write_mnist(root, dotted=True)[0]),
    "torchvision": lambda root: (root, write_mnist(root / "MNIST" / "raw")[0]),
    "zip": lambda root: (_made(zip_folder, root / "a", images := write_mnist(root / "a", dotted=True)[0]), images),
}


def _made(pack: Callable[..., Path], folder: Path, images: np.ndarray, *inside: str, name: str = "set.zip") -> Path:
    return pack(folder, folder.parent / name, *inside)


@pytest.mark.parametrize("layout", MNIST)
def test_mnist(layout, tmp_path):
    root, images = MNIST[layout](tmp_path / "root")
    data = load_small("mnist", root)
    assert np.array_equal(data.train.inputs[:, 0].numpy(), images[:40])
    assert np.array_equal(data.test.inputs[:, 0].numpy(), images[40:])
    assert data.train.labels.tolist() == [k % 10 for k in range(40)]
    assert data.test.labels.tolist() == [k % 10 for k in range(40, 52)]


PYTHON = {10: "cifar-10-batches-py", 100: "cifar-100-python"}
BINARY = {10: "cifar-10-batches-bin", 100: "cifar-100-binary"}


def _cifar(layout: str, root: Path, classes: int) -> tuple[Path, np.ndarray]:
    if layout == "binary":
        return root, write_cifar(root, classes)
    if layout == "binary in its folder":
        return root, write_cifar(root / BINARY[classes], classes)
    if layout == "python in its folder":
        return root, write_cifar_python(root / PYTHON[classes], classes)
    if layout.startswith("protocol"):
        return root, write_cifar_python(root, classes, layout.split()[1])
    images = write_cifar_python(root / "files", classes)
    if layout == "tar.gz":
        return _tar(root / "files", root / f"cifar-{classes}-python.tar.gz", PYTHON[classes]), images
    if layout == "tar.gz beside others":
        (root / "beside").mkdir()
        _tar(root / "files", root / "beside" / f"cifar-{classes}-python.tar.gz", PYTHON[classes])
        return root / "beside", images
    return zip_folder(root / "files", root / "archive.zip", f"{PYTHON[classes]}/"), images


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize(
    "layout",
    ["binary", "binary in its folder", "python in its folder", "tar.gz", "tar.gz beside others", "zip"]
    + [f"protocol {k}" for k in (1, 2, 3, 4, 5)],
)
def test_cifar(layout, classes, tmp_path):
    root, images = _cifar(layout, tmp_path / "root", classes)
    data = load_small(f"cifar{classes}", root)
    train = 100 if classes == 10 else 40
    assert np.array_equal(data.train.inputs.numpy(), images[:train])
    assert np.array_equal(data.test.inputs.numpy(), images[train:])
    cycle = 10 if classes == 10 else 20
    assert data.train.labels.tolist() == [k % 20 % cycle for k in range(train)]
    assert data.test.labels.tolist() == [k % cycle for k in range(20)]


TINY = ("folder", "unpacked beside its zip", "zip", "zip from a Mac", "zip beside others", "val by class", "unsorted")


def _tiny(layout: str, root: Path) -> tuple[Path, np.ndarray]:
    if layout == "folder":
        return root, write_tiny_imagenet(root)
    own = root / "tiny-imagenet-200"
    images = write_tiny_imagenet(own, order=(2, 0, 3, 1) if layout == "unsorted" else ())
    if layout == "zip from a Mac":
        for file in sorted(own.rglob("*.png")):
            hidden = root / "made" / "__MACOSX" / file.relative_to(root).with_name(f"._{file.name}")
            hidden.parent.mkdir(parents=True, exist_ok=True)
            hidden.write_bytes(b"attributes")
        own.rename(root / "made" / own.name)
        return zip_folder(root / "made", root / "archive.zip"), images
    if layout.startswith("zip"):
        (root / "beside").mkdir()
        path = zip_folder(own, root / "beside" / "tiny-imagenet-200.zip", "tiny-imagenet-200/")
        return (path if layout == "zip" else path.parent), images
    if layout == "unpacked beside its zip":
        zip_folder(own, root / "tiny-imagenet-200.zip", "tiny-imagenet-200/")
        (root / ".DS_Store").write_bytes(b"")
        (own / "train" / ".ipynb_checkpoints").mkdir()
    elif layout == "val by class":
        for label, name in enumerate(sorted(path.name for path in (own / "train").iterdir())):
            (own / "val" / name / "images").mkdir(parents=True)
            (own / "val" / "images" / f"val_{label}.png").rename(own / "val" / name / "images" / f"val_{label}.png")
        (own / "val" / "val_annotations.txt").unlink()
        (own / "val" / "images").rmdir()
    return root, images


def test_a_table_that_an_editor_has_saved(tmp_path):
    """With the byte order mark and the line ends of another system."""
    images = write_tiny_imagenet(tmp_path)
    table = tmp_path / "val" / "val_annotations.txt"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    assert np.array_equal(load_small("tiny-imagenet", tmp_path).test.inputs.numpy(), images[24:])


@pytest.mark.parametrize("layout", TINY)
def test_tiny_imagenet(layout, tmp_path):
    root, images = _tiny(layout, tmp_path / "root")
    data = load_small("tiny-imagenet", root)
    order = [2, 0, 3, 1] if layout == "unsorted" else [0, 1, 2, 3]
    assert data.test.labels.tolist() == order
    assert np.array_equal(data.test.inputs.numpy(), images[24:][order])
    assert data.train.labels.tolist() == [label for label in range(4) for _ in range(6)]
    for label in range(4):
        assert np.array_equal(data.train.inputs[data.train.labels == label].numpy(), images[label:24:4])


def test_grey_and_print_jpegs_become_three_channels(tmp_path):
    """Some of the published JPEGs have one channel, or four."""
    write_tiny_imagenet(tmp_path)
    grey = Image.fromarray(random_images(1, 1, 64)[0, 0])
    print_colours = Image.fromarray(random_images(1, 4, 64)[0].transpose(1, 2, 0), "CMYK")
    for name, picture in (("val_0.png", grey), ("val_1.png", print_colours)):
        picture.save(tmp_path / "val" / "images" / name, "JPEG")
    data = load_small("tiny-imagenet", tmp_path)
    for index, name in enumerate(("val_0.png", "val_1.png")):
        expected = np.asarray(Image.open(tmp_path / "val" / "images" / name).convert("RGB")).transpose(2, 0, 1)
        assert np.array_equal(data.test.inputs[index].numpy(), expected)
    assert bool((data.test.inputs[0, 0] == data.test.inputs[0, 2]).all())


@pytest.mark.parametrize("layout", ["by class", "kaggle", "archive"])
def test_imagenet(layout, tmp_path):
    root = tmp_path / "root"
    images = write_imagenet(root / "ILSVRC" / "Data" / "CLS-LOC" if layout == "kaggle" else root, size=64)
    if layout == "kaggle":
        val = root / "ILSVRC" / "Data" / "CLS-LOC" / "val"
        rows = ["ImageId,PredictionString"]
        for index in (2, 1, 0, 3):
            (val / f"n{index % 2}" / f"{index:02d}.png").rename(val / f"ILSVRC2012_val_{index:08d}.JPEG")
            rows.append(f"ILSVRC2012_val_{index:08d},n{index % 2} 1 2 3 4 n{index % 2} 5 6 7 8")
        for label in range(2):
            (val / f"n{label}").rmdir()
        (root / "LOC_val_solution.csv").write_text("\n".join(rows) + "\n")
    elif layout == "archive":
        root = zip_folder(root, tmp_path / "imagenet.zip", "imagenet/")
    data = load_small("imagenet", root, size=56)
    order = [2, 1, 0, 3] if layout == "kaggle" else [0, 2, 1, 3]
    assert data.test.labels.tolist() == [k % 2 for k in order]
    # 56 · 8/7 = 64 pixels, and the centre of them.
    assert np.array_equal(data.test.inputs.numpy(), images[order][:, :, 4:60, 4:60])
    assert np.array_equal(data.train.inputs.numpy(), images[[4, 6, 8, 10, 5, 7, 9, 11]][:, :, 4:60, 4:60])


def test_hub_parquet_in_a_folder_of_its_own_name(tmp_path):
    pytest.importorskip("datasets")
    first, second = write_hub(tmp_path / "tiny-imagenet", "tiny-imagenet")
    data = load_small("tiny-imagenet", tmp_path)
    assert np.array_equal(data.train.inputs.numpy(), first)
    assert np.array_equal(data.test.inputs.numpy(), second)
