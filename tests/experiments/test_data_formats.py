"""Published data sets from files of their real formats, written here byte by byte, and decoded once."""

from __future__ import annotations

import gzip
import struct
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neuralmechanics.experiments import ImageConfig, load_data
from neuralmechanics.experiments.data import folders

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


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_from_idx(tmp_path, zipped):
    images, labels = write_mnist(tmp_path, zipped=zipped)
    data = load_data("mnist", ImageConfig(root=str(tmp_path)))
    assert data.input_shape == (1, 28, 28)
    assert np.array_equal(data.train.inputs[:, 0].numpy(), images[:40])
    assert np.array_equal(data.test.inputs[:, 0].numpy(), images[40:])
    assert np.array_equal(data.test.labels.numpy(), labels[40:])


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_from_binary(tmp_path, classes):
    images = write_cifar(tmp_path, classes)
    data = load_data(f"cifar{classes}", ImageConfig(root=str(tmp_path)))
    assert data.classes == classes
    assert np.array_equal(torch.cat([data.train.inputs, data.test.inputs]).numpy(), images)
    assert data.train.labels.tolist() == [k % classes for k in range(len(images) - 8)]


def test_tiny_imagenet_from_folders_is_decoded_once(tmp_path, monkeypatch):
    images = write_tiny_imagenet(tmp_path)
    data = load_data("tiny-imagenet", ImageConfig(root=str(tmp_path)))
    assert (data.classes, data.input_shape) == (4, (3, 64, 64))
    assert np.array_equal(data.test.inputs.numpy(), images[24:])
    assert data.test.labels.tolist() == [0, 1, 2, 3]
    assert np.array_equal(data.train.inputs[data.train.labels == 2].numpy(), images[2:24:4])

    def refuse(*arguments: object) -> None:
        raise AssertionError("decoded a second time")

    monkeypatch.setattr(folders, "pixels", refuse)
    again = load_data("tiny-imagenet", ImageConfig(root=str(tmp_path)))
    assert torch.equal(again.train.inputs, data.train.inputs)


def test_imagenet_is_scaled_and_cut_to_size(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        for name in ("n01", "n02"):
            for index in range(count):
                image = np.zeros((3, 30, 60), np.uint8)
                image[:, :, 20:40] = 200  # the middle third survives the central crop
                write_image(tmp_path / split / name / f"{index}.png", image)
    data = load_data("imagenet", ImageConfig(root=str(tmp_path), size=28))
    assert (len(data.train), len(data.test), data.classes, data.input_shape) == (6, 4, 2, (3, 28, 28))
    assert (data.train.inputs[:, :, :, 14] == 200).all()
    assert (data.train.inputs[:, :, :, 0] == 0).all()


def test_any_image_folder_keeps_a_tenth_for_testing(tmp_path):
    images = write_image_folder(tmp_path)
    data = load_data("folder", ImageConfig(root=str(tmp_path), size=40))
    assert (len(data.train), len(data.test), data.classes) == (27, 3, 3)
    assert np.array_equal(data.test.inputs.numpy(), images[9::10])
    assert data.mean == pytest.approx([0.5] * 3, abs=0.02)


def test_the_hub_by_name(monkeypatch):
    datasets = types.SimpleNamespace()
    images = random_images(6, 3, 32)

    def load_dataset(repository: str, split: str) -> list[dict[str, object]]:
        assert repository == "uoft-cs/cifar100"
        rows = range(4) if split == "train" else range(4, 6)
        return [{"img": Image.fromarray(images[k].transpose(1, 2, 0)), "fine_label": k} for k in rows]

    datasets.load_dataset = load_dataset
    monkeypatch.setitem(__import__("sys").modules, "datasets", datasets)
    data = load_data("cifar100")
    assert np.array_equal(data.train.inputs.numpy(), images[:4])
    assert data.test.labels.tolist() == [4, 5]
    datasets.load_dataset = None  # the second time nothing is asked of the hub
    assert torch.equal(load_data("cifar100").train.inputs, data.train.inputs)


def test_missing_data_says_what_would_provide_it(monkeypatch, tmp_path):
    def load_dataset(repository: str, split: str) -> None:
        raise ConnectionError("offline\nmore lines")

    monkeypatch.setitem(__import__("sys").modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(ValueError) as error:
        load_data("imagenet")
    message = str(error.value)
    assert "datasets.load_dataset('ILSVRC/imagenet-1k')" in message
    assert "images.root" in message
    assert "\n" not in message
    for name in ("mnist", "cifar10", "tiny-imagenet"):
        with pytest.raises(ValueError, match=f"no {name} in .* it must hold "):
            load_data(name, ImageConfig(root=str(tmp_path)))
    with pytest.raises(ValueError, match=r"needs images\.root"):
        load_data("folder")


def test_damaged_files_are_named(tmp_path):
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="train-images-idx3-ubyte' is cut short"):
        load_data("mnist", ImageConfig(root=str(tmp_path)))
    write_cifar(tmp_path, 100)
    (tmp_path / "test.bin").write_bytes(b"123")
    with pytest.raises(ValueError, match=r"test.bin' is no CIFAR file"):
        load_data("cifar100", ImageConfig(root=str(tmp_path)))
    write_image_folder(tmp_path / "folder")
    (tmp_path / "folder" / "class1" / "03.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cannot decode .*03.png"):
        load_data("folder", ImageConfig(root=str(tmp_path / "folder"), size=40))
