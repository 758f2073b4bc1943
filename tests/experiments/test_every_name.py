"""Every model and data name: one monitored epoch on a tiny set, from a file of the real format if there is one."""

from __future__ import annotations

import pytest
import torch

from neuralmechanics.experiments import (
    DataSet,
    ImageConfig,
    OptimizerConfig,
    RecordConfig,
    TrainConfig,
    data_names,
    load_data,
    model_names,
    train,
)
from neuralmechanics.monitor import open_run

from .formats import load_small, write_cifar, write_image_folder, write_imagenet, write_mnist, write_tiny_imagenet

# The large ones take up to a minute each on one core: tested where time is no matter.
LONG = (pytest.mark.slow, pytest.mark.timeout(1800))
HEAVY = ("vgg1", "resnet", "wide-resnet")


def prepare(name: str, root) -> DataSet:
    """A tiny data set called `name`, its files written below `root` if it has files."""
    if name == "mnist":
        write_mnist(root)
    elif name.startswith("cifar"):
        write_cifar(root, int(name.removeprefix("cifar")))
    elif name == "tiny-imagenet":
        write_tiny_imagenet(root)
    elif name == "folder":
        write_image_folder(root)
    elif name == "imagenet":
        write_imagenet(root)
    else:
        return load_data(name, ImageConfig(size=16 if name == "textures" else None, train_limit=40, test_limit=12))
    return load_small(name, root, size=32 if name == "imagenet" else None)


def one_epoch(model: str, data: DataSet, out, *, augment: bool = False) -> None:
    """Train for one monitored epoch and hold every prediction against the measured charges."""
    config = TrainConfig(
        model=model,
        data=data.name,
        epochs=1,
        batch_size=16,
        precision="float64",
        images=ImageConfig(augment=augment),
        optimizer=OptimizerConfig(learning_rate=0.01, momentum=0.9, weight_decay=1e-3),
        record=RecordConfig(every=1, residuals=True),
    )
    result = train(config, out, data=data)
    assert result.steps >= 1
    assert all(parameter.grad is not None for parameter in result.model.parameters() if parameter.requires_grad)
    run = open_run(out)
    assert run.data.sizes["step"] == result.steps + 1
    identity = run.errors().query("law == 'identity'")
    assert len(identity) > 0
    assert identity["max_error"].max() < 1e-9


@pytest.mark.parametrize("data", data_names())
def test_every_data_name_trains(data, tmp_path):
    one_epoch("gpt" if data == "sequences" else "mlp-bn", prepare(data, tmp_path), tmp_path / "run")


@pytest.mark.parametrize(
    "model",
    [pytest.param(m, marks=LONG) if m.startswith(HEAVY) else m for m in model_names()],
)
def test_every_model_trains(model, tmp_path):
    if model == "gpt":
        one_epoch(model, load_data("sequences", ImageConfig(train_limit=32, test_limit=8)), tmp_path / "run")
    else:
        one_epoch(model, load_data("textures", ImageConfig(size=16, train_limit=32, test_limit=8)), tmp_path / "run")


def test_augmented_textures_at_full_size(tmp_path):
    data = load_data("textures", ImageConfig(train_limit=16, test_limit=4))
    one_epoch("convnet-bn", data, tmp_path / "run", augment=True)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["GPT2Config", "ViTConfig"])
def test_transformers_configurations_train(config, tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    small = {"GPT2Config": {"n_layer": 1, "n_embd": 16, "n_head": 2, "vocab_size": 32, "n_positions": 16}}
    vit = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    small["ViTConfig"] = vit | {"image_size": 16, "patch_size": 8}
    folder = tmp_path / "config"
    getattr(transformers, config)(**small[config]).save_pretrained(folder)
    data = load_data("sequences", ImageConfig(train_limit=32, test_limit=8))
    if config == "ViTConfig":
        data = load_data("textures", ImageConfig(size=16, train_limit=32, test_limit=8))
    one_epoch(f"hf:{folder}", data, tmp_path / "run")
    assert torch.get_default_dtype() == torch.float32
