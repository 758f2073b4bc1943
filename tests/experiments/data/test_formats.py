"""Published data sets from files of their real formats, written here byte by byte, and decoded once."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch
from PIL import Image

from neuralmechanics.experiments import ImageConfig, load_data
from neuralmechanics.experiments.data.readers import pictures

from ..formats import random_images, write_cifar, write_image, write_image_folder, write_mnist, write_tiny_imagenet


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

    monkeypatch.setattr(pictures, "pixels", refuse)
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
