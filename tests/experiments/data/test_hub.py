"""Published data sets in Hugging Face's own format: its files, columns, splits and caches, no network."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from neuralmechanics.experiments import ImageConfig, TrainConfig, load_data, train
from neuralmechanics.experiments.data.readers import hub

from ..formats import HUB, SIZES, SMALL, load_small, write_hub, write_mnist

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def own_hub_cache(tmp_path_factory, monkeypatch):
    """Neither the user's cache nor the hub is touched."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "hub-cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.mark.parametrize("name", HUB)
def test_a_copy_of_the_hub_repository(name, tmp_path, monkeypatch):
    first, second = write_hub(tmp_path, name)
    # Images of ImageNet are as large as they are: the size is what the user wants.
    images = ImageConfig(root=str(tmp_path), size=28 if name == "imagenet" else None)
    data = load_data(name, images, sources=SMALL)
    classes, train_count, test_count = SIZES[name]
    assert (len(data.train), len(data.test)) == (train_count.images, test_count.images)
    assert data.classes == classes
    assert data.train.labels.tolist() == [k % classes for k in range(train_count.images)]
    if name == "imagenet":
        # 28 · 8/7 = 32 pixels, and the centre of them.
        first, second = first[:, :, 2:30, 2:30], second[:, :, 2:30, 2:30]
    assert np.array_equal(data.train.inputs.numpy(), first)
    assert np.array_equal(data.test.inputs.numpy(), second)

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("decoded a second time")

    monkeypatch.setattr(hub, "picture_bytes", refuse)
    assert torch.equal(load_data(name, images, sources=SMALL).train.inputs, data.train.inputs)


def test_a_data_set_saved_by_the_library_trains(tmp_path):
    write_hub(tmp_path / "saved", "cifar100", saved=True)
    config = TrainConfig(model="mlp-bn", data="cifar100", epochs=1, batch_size=20)
    result = train(config, tmp_path / "run", data=load_small("cifar100", tmp_path / "saved"))
    assert result.steps == 2
    with pytest.raises(ValueError, match="called 'cifar100', the configuration's data 'digits'"):
        train(TrainConfig(data="digits"), data=load_small("cifar100", tmp_path / "saved"))


def test_the_usual_place_of_all_data(tmp_path, monkeypatch):
    images, _ = write_mnist(tmp_path / "MNIST" / "raw")
    first, _ = write_hub(tmp_path / "tiny-imagenet-200", "tiny-imagenet")
    monkeypatch.setenv("NEURALMECHANICS_DATA", str(tmp_path))
    assert np.array_equal(load_small("mnist", None).train.inputs[:, 0].numpy(), images[:40])
    assert np.array_equal(load_small("tiny-imagenet", None).train.inputs.numpy(), first)


def test_the_cache_of_the_library_is_read_as_files(tmp_path, monkeypatch):
    """`load_dataset` leaves Arrow files by configuration, version and fingerprint; the newest copy counts."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for number, name in enumerate(("old", "new")):
        first, second = write_hub(tmp_path / name, "cifar10")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / f"cache-{name}")
        for split, part in (("train", "train"), ("test", "test")):
            files = str(tmp_path / name / "data" / f"{part}-*.parquet")
            datasets.load_dataset("parquet", data_files={split: files}, split=split)
        folder = tmp_path / "home" / "datasets" / "uoft-cs___cifar10" / "plain_text" / "0.0.0" / name
        folder.mkdir(parents=True)
        for file in (tmp_path / f"cache-{name}").rglob("*.arrow"):
            (folder / file.name.replace("parquet", "cifar10")).write_bytes(file.read_bytes())
        os.utime(folder, (number, number))
    data = load_small("cifar10", None)
    assert np.array_equal(data.train.inputs.numpy(), first)
    assert np.array_equal(data.test.inputs.numpy(), second)


def test_the_cache_of_the_hub_is_read_through_its_links(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    first, _ = write_hub(tmp_path / "files", "mnist")
    copied = tmp_path / "hub" / "datasets--ylecun--mnist"
    (copied / "blobs").mkdir(parents=True)
    (copied / "snapshots" / "abc" / "mnist").mkdir(parents=True)
    for file in (tmp_path / "files" / "data").iterdir():
        file.rename(copied / "blobs" / file.name[:4])
        (copied / "snapshots" / "abc" / "mnist" / file.name).symlink_to(f"../../../blobs/{file.name[:4]}")
    assert np.array_equal(load_small("mnist", None).train.inputs.numpy(), first)


def test_other_columns_and_missing_splits_are_named(tmp_path):
    write_hub(tmp_path / "one", "cifar100")
    with pytest.raises(ValueError, match="columns 'image' and 'label', it has img, fine_label, coarse_label"):
        load_small("tiny-imagenet", tmp_path / "one")
    for path in (tmp_path / "one" / "data").glob("train-*"):
        path.write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"cannot read the data set in .*train-00000-of-00001.parquet"):
        load_small("cifar100", tmp_path / "one")
    for path in (tmp_path / "one" / "data").glob("test-*"):
        path.unlink()
    with pytest.raises(ValueError, match="must hold the splits 'train' and 'test', it holds train"):
        load_small("cifar100", tmp_path / "one")
