"""Published data sets in Hugging Face's own format: the library's files, columns and splits, no network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuralmechanics.experiments import ImageConfig, TrainConfig, load_data, train
from neuralmechanics.experiments.data.readers import hub

from ..formats import HUB, write_hub, write_mnist

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
    data = load_data(name, images)
    assert (len(data.train), len(data.test)) == (8, 4)
    assert data.classes == {"mnist": 10, "cifar10": 10, "cifar100": 100, "tiny-imagenet": 200, "imagenet": 1000}[name]
    assert data.train.labels.tolist() == [k % 4 for k in range(8)]
    if name == "imagenet":
        # 28 · 8/7 = 32 pixels, and the centre of them.
        first, second = first[:, :, 2:30, 2:30], second[:, :, 2:30, 2:30]
    assert np.array_equal(data.train.inputs.numpy(), first)
    assert np.array_equal(data.test.inputs.numpy(), second)

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("decoded a second time")

    monkeypatch.setattr(hub, "_loaded", refuse)
    assert torch.equal(load_data(name, images).train.inputs, data.train.inputs)


def test_a_data_set_saved_by_the_library_trains(tmp_path):
    write_hub(tmp_path / "saved", "cifar100", saved=True)
    images = ImageConfig(root=str(tmp_path / "saved"))
    result = train(
        TrainConfig(model="mlp-bn", data="cifar100", epochs=1, batch_size=4, images=images), tmp_path / "run"
    )
    assert result.steps == 2


def test_the_usual_place_of_all_data(tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    images, _ = write_mnist(tmp_path / "mnist")
    first, _ = write_hub(tmp_path / "tiny-imagenet", "tiny-imagenet")
    monkeypatch.setenv("NEURALMECHANICS_DATA", str(tmp_path))
    assert np.array_equal(load_data("mnist").train.inputs[:, 0].numpy(), images[:40])
    assert np.array_equal(load_data("tiny-imagenet").train.inputs.numpy(), first)


def test_other_columns_and_missing_splits_are_named(tmp_path):
    write_hub(tmp_path / "one", "cifar100")
    with pytest.raises(ValueError, match="columns 'image' and 'label', it has img, fine_label, coarse_label"):
        load_data("tiny-imagenet", ImageConfig(root=str(tmp_path / "one")))
    for path in (tmp_path / "one" / "data").glob("train-*"):
        path.write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"cannot read the data set in .*train-00000-of-00001.parquet"):
        load_data("cifar100", ImageConfig(root=str(tmp_path / "one")))
    for path in (tmp_path / "one" / "data").glob("test-*"):
        path.unlink()
    with pytest.raises(ValueError, match="must hold the splits 'train' and 'test', it holds train"):
        load_data("cifar100", ImageConfig(root=str(tmp_path / "one")))
