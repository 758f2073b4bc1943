"""What published files hold is what is read: images, labels and scaling, and every picture decoded once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralmechanics.experiments import ImageConfig, load_data
from neuralmechanics.experiments.data.readers import pictures
from neuralmechanics.experiments.data.sources import Count

from ..formats import SMALL, load_small, write_cifar, write_image, write_image_folder, write_mnist, write_tiny_imagenet


def test_tiny_imagenet_from_folders_is_decoded_once(tmp_path, monkeypatch):
    images = write_tiny_imagenet(tmp_path)
    data = load_small("tiny-imagenet", tmp_path)
    assert (data.classes, data.input_shape) == (4, (3, 64, 64))
    assert np.array_equal(data.test.inputs.numpy(), images[24:])
    assert data.test.labels.tolist() == [0, 1, 2, 3]
    assert np.array_equal(data.train.inputs[data.train.labels == 2].numpy(), images[2:24:4])

    def refuse(*arguments: object) -> None:
        raise AssertionError("decoded a second time")

    monkeypatch.setattr(pictures, "pixels", refuse)
    again = load_small("tiny-imagenet", tmp_path)
    assert torch.equal(again.train.inputs, data.train.inputs)


IMAGENET = {"imagenet": replace(SMALL["imagenet"], train=Count(6), test=Count(4))}


def test_imagenet_is_scaled_and_cut_to_size(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        for name in ("n01", "n02"):
            for index in range(count):
                image = np.zeros((3, 30, 60), np.uint8)
                image[:, :, 20:40] = 200 if split == "train" else 100  # the middle third survives the central crop
                image[0, 10:20, 24] = 10 * index + 5 * (name == "n01")  # no copy of another
                write_image(tmp_path / split / name / f"{index}.png", image)
    data = load_data("imagenet", ImageConfig(root=str(tmp_path), size=28), sources=IMAGENET)
    assert (len(data.train), len(data.test), data.classes, data.input_shape) == (6, 4, 2, (3, 28, 28))
    assert (data.train.inputs[:, :, :, 14] == 200).all()
    assert (data.train.inputs[:, :, :, 0] == 0).all()


def test_any_image_folder_keeps_a_tenth_for_testing(tmp_path):
    images = write_image_folder(tmp_path)
    data = load_data("folder", ImageConfig(root=str(tmp_path), size=40))
    assert (len(data.train), len(data.test), data.classes) == (27, 3, 3)
    assert np.array_equal(data.test.inputs.numpy(), images[9::10])
    assert data.mean == pytest.approx([0.5] * 3, abs=0.02)


def test_missing_data_says_what_would_provide_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nothing"))
    monkeypatch.delenv("NEURALMECHANICS_DATA", raising=False)
    with pytest.raises(ValueError) as error:
        load_data("imagenet")
    message = str(error.value)
    assert "datasets.load_dataset('ILSVRC/imagenet-1k')" in message
    assert "images.root" in message
    assert "\n" not in message
    for name in ("mnist", "cifar10", "tiny-imagenet"):
        with pytest.raises(ValueError, match=f"no {name} in .*, which holds nothing: it must hold "):
            load_data(name, ImageConfig(root=str(tmp_path)))
        with pytest.raises(ValueError, match=r"images\.root: there is no .*/missing'; put "):
            load_data(name, ImageConfig(root=str(tmp_path / "missing")))
    with pytest.raises(ValueError, match=r"needs images\.root"):
        load_data("folder")


def test_damaged_files_are_named(tmp_path):
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="train-images-idx3-ubyte' is cut short"):
        load_small("mnist", tmp_path)
    write_cifar(tmp_path, 100)
    (tmp_path / "test.bin").write_bytes(b"123")
    with pytest.raises(ValueError, match=r"test.bin' is no CIFAR file"):
        load_small("cifar100", tmp_path)
    write_image_folder(tmp_path / "folder")
    (tmp_path / "folder" / "class1" / "03.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cannot decode .*03.png"):
        load_data("folder", ImageConfig(root=str(tmp_path / "folder"), size=40))
