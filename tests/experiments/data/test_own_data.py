"""Examples and losses of one's own: in every form the same training, and refusals of one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from neuralmechanics.experiments import TrainConfig, data_set, load_data, train
from neuralmechanics.experiments.data import store_data, stored_data
from neuralmechanics.experiments.losses import loss_function
from neuralmechanics.experiments.sweep import Sweep, expand, run_sweep

X = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) > 0).long() + 2 * (X[:, 0] > 0).long()


class Pairs(Dataset[tuple[Tensor, int]]):
    """A Dataset that gives labels as Python numbers."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return X[index], int(Y[index])


def shifted(batch: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.stack([x + 1 for x, _ in batch]), torch.stack([y for _, y in batch])


FORMS: dict[str, Any] = {
    "tensors": (X, Y),
    "a list": [X, Y],
    "a TensorDataset": TensorDataset(X, Y),
    "a Dataset": Pairs(),
    "a DataLoader": DataLoader(Pairs(), batch_size=7, shuffle=True, drop_last=True),
    "parts": {"train": (X, Y), "test": (X, Y)},
    "a pair of parts": (TensorDataset(X, Y), Pairs()),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_the_same_data_set(name: str) -> None:
    made = data_set(FORMS[name], "mine")
    assert torch.equal(made.train.inputs, X)
    assert torch.equal(made.train.labels, Y)
    assert torch.equal(made.test.inputs, X)
    assert (made.name, made.classes, made.input_shape, made.mean) == ("mine", 4, (5,), ())


def test_a_loader_brings_its_collation_and_test_examples_their_own() -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=3, collate_fn=shifted)
    made = data_set(loader, "mine", test=(X[:9], Y[:9]), classes=7)
    assert torch.equal(made.train.inputs, X + 1)
    assert (len(made.test), made.classes) == (9, 7)


def test_bytes_are_scaled_and_targets_are_kept() -> None:
    images = torch.randint(256, (8, 3, 4, 4), dtype=torch.uint8)
    made = data_set((images, torch.arange(8)), "mine")
    assert (made.mean, made.std) == ((0.0,) * 3, (1.0,) * 3)
    flat = data_set((images.flatten(1), torch.arange(8)), "mine")
    assert torch.equal(flat.train.inputs, images.flatten(1).float() / 255)
    targets = torch.randn(8, 3)
    assert torch.equal(data_set((images, targets), "mine").train.labels, targets)
    assert data_set((images, targets), "mine").classes == 3
    assert data_set((images, targets[:, 0]), "mine").classes == 1


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(X)


WRONG: dict[str, Any] = {
    "is a dict_values": {}.values(),
    "is an IterableDataset": Stream(),
    "give one label an input": (X, Y[:-1]),
    "has 0 inputs": (X[:0], Y[:0]),
    "not finite": (X / 0, Y),
    "numbered from 0": (X, Y - 2),
    "different shapes": {"train": (X, Y), "test": (X[:, 1:], Y)},
    "has the parts test": {"test": (X, Y)},
    "where a pair of tensors": TensorDataset(X),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_data_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=text) as told:
        data_set(WRONG[text], "mine")
    assert "\n" not in str(told.value)
    assert "'mine'" in str(told.value)


def test_classes_that_do_not_suffice_are_refused() -> None:
    with pytest.raises(ValueError, match="label 3, which is none of the classes 0 to 2"):
        data_set((X, Y), "mine", classes=3)
    with pytest.raises(ValueError, match="brings test examples, and test= gives others"):
        data_set(FORMS["parts"], "mine", test=(X, Y))


MODULE = """
import torch
from torch import nn
from torch.nn import functional

def examples():
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    return x, (x.sum(1) > 0).long() + 2 * (x[:, 0] > 0).long()

def targets():
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    return x, x.sin() @ torch.ones(5, 2)

def broken():
    raise RuntimeError("no such file")

def absolute(model, batch):
    inputs, targets = batch
    return (model(inputs) - targets).abs().mean()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"own_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_a_factory_is_a_data_set_by_name(module: str) -> None:
    made = load_data(f"{module}:examples")
    assert torch.equal(made.train.inputs, X)
    named = train(TrainConfig(data=f"{module}:examples", steps=6)).performance
    given = train(TrainConfig(data="mine", steps=6), data=FORMS["a DataLoader"]).performance
    assert named == given
    for wrong, text in (("nothing", "has no callable"), ("broken", "could not be made: no such file")):
        with pytest.raises(ValueError, match=text) as told:
            load_data(f"{module}:{wrong}")
        assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match="cannot import 'nowhere' of data 'nowhere:x'"):
        load_data("nowhere:x")


def test_a_loss_of_ones_own_is_descended_and_measured(module: str) -> None:
    config = TrainConfig(data=f"{module}:targets", loss=f"{module}:absolute", steps=40, batch_size=16)
    before = train(TrainConfig(data=config.data, loss=config.loss, steps=1, batch_size=16)).performance
    after = train(config).performance
    assert 0 < after.loss < before.loss
    assert after.top1 != after.top1  # there are no classes
    with pytest.raises(ValueError, match="has no callable 'nothing'"):
        loss_function(f"{module}:nothing")
    with pytest.raises(ValueError, match="loss must be one of cross-entropy, mse, or package"):
        TrainConfig(loss="hinge")


def test_names_of_known_data_are_not_taken() -> None:
    with pytest.raises(ValueError, match="'digits' names a data set that is known"):
        train(TrainConfig(steps=1), data=(X, Y))


def test_stored_examples_are_read_back(tmp_path: Path) -> None:
    images = torch.randint(256, (8, 3, 4, 4), dtype=torch.uint8)
    made = data_set({"train": (images, torch.arange(8)), "test": (images[:2], torch.arange(2))}, "mine")
    store_data(made, tmp_path)
    store_data(made, tmp_path)
    again = stored_data(tmp_path, "mine")
    assert again is not None
    for one, other in ((again.train, made.train), (again.test, made.test)):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.labels, other.labels)
    assert (again.classes, again.mean, again.std) == (made.classes, made.mean, made.std)
    assert stored_data(tmp_path, "others") is None
    with pytest.raises(ValueError, match="holds other examples than those given"):
        store_data(data_set((images + 1, torch.arange(8)), "mine"), tmp_path)


@pytest.mark.slow
def test_a_sweep_trains_on_examples_that_are_given(tmp_path: Path) -> None:
    """In processes of their own: the same as in this one; and other examples are refused in the same folder."""
    points = expand({"data": "mine", "steps": 4, "record": {"enabled": False}}, {"seed": [0, 1]})
    sweep = Sweep(points, tmp_path / "sweep")
    table = run_sweep(sweep, workers=2, backend="processes", data=FORMS["a Dataset"])
    alone = [train(point.config, data=(X, Y)).performance.loss for point in points]
    assert table["loss" if "loss" in table else "test_loss"].tolist() == pytest.approx(alone, rel=1e-5)
    with pytest.raises(ValueError, match="holds other examples than those given"):
        run_sweep(sweep, backend="processes", data=(X + 1, Y))
    known = Sweep(expand({}, {"seed": [0]}), tmp_path / "known")
    with pytest.raises(ValueError, match="data = digits names what is known"):
        run_sweep(known, backend="processes", data=(X, Y))
