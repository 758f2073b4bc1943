"""Batches: an order that seed and epoch fix, from any position; augmentation that moves pixels and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from neuralmechanics.experiments import ImageConfig, load_data
from neuralmechanics.experiments.data import Batches, Position
from neuralmechanics.experiments.data.augment import crop_and_flip, normalise
from neuralmechanics.experiments.data.dataset import DataSet, Split
from neuralmechanics.experiments.seeds import generator

CPU = torch.device("cpu")


def batches(seed=0, augment=False):
    return Batches(load_data("digits"), seed=seed, augment=augment, device=CPU, dtype=torch.float32)


def test_digits_are_the_real_ones_in_equal_parts():
    data = load_data("digits")
    assert (len(data.train), len(data.test), data.classes, data.input_shape) == (1437, 360, 10, (1, 8, 8))
    assert data.test.labels.bincount().min() >= 35
    images = normalise(data.train.inputs, data.mean, data.std, torch.float64)
    assert abs(float(images.mean())) < 0.01
    assert float(images.std()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("augment", [False, True])
def test_a_batch_depends_on_seed_and_position_alone(augment):
    stream, later = batches(augment=augment), batches(augment=augment)
    position = Position()
    seen = []
    while position.epoch < 2:
        batch, following = stream.take(position, 100)
        seen.append((position, batch))
        position = following
    for where, (inputs, labels) in reversed(seen):
        again, _ = later.take(where, 100)
        assert torch.equal(again[0], inputs)
        assert torch.equal(again[1], labels)
    other, _ = batches(seed=1, augment=augment).take(Position(), 100)
    assert not torch.equal(other[1], seen[0][1][1])


def test_an_epoch_is_a_permutation_and_the_next_one_another():
    stream = batches()
    epochs = []
    for epoch in (0, 1):
        position, images = Position(epoch=epoch), []
        while position.epoch == epoch:
            batch, position = stream.take(position, 128)
            images.append(batch[0])
        epochs.append(torch.cat(images).flatten(1))
    assert not torch.equal(*epochs)
    first, second = (sorted(map(tuple, images.tolist())) for images in epochs)
    assert first == second


def test_crop_and_flip_against_the_slow_obvious_way():
    images = torch.randint(0, 256, (40, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    draw, replay = generator(3, "augment"), generator(3, "augment")
    result = crop_and_flip(images, draw)
    shift = torch.randint(0, 9, (2, 40, 1), generator=replay)[..., 0].tolist()
    flip = (torch.rand(40, 1, generator=replay) < 0.5)[:, 0].tolist()
    for index, image in enumerate(images):
        padded = functional.pad(image, (4, 4, 4, 4))
        row, column = shift[0][index], shift[1][index]
        cropped = padded[:, row : row + 6, column : column + 5]
        assert torch.equal(result[index], cropped.flip(-1) if flip[index] else cropped)
    assert any(flip)
    assert not all(flip)


def test_textures_are_made_by_seed_in_any_amount_and_need_more_than_their_mean():
    few = load_data("textures", ImageConfig(size=16, train_limit=300, test_limit=40))
    more = load_data("textures", ImageConfig(size=16, train_limit=700, test_limit=40))
    assert torch.equal(few.train.inputs, more.train.inputs[:300])
    assert few.classes == 200
    assert few.input_shape == (3, 16, 16)
    assert few.train.inputs.dtype == torch.uint8
    assert few.test.inputs.float().std() > 20


def test_sequences_have_learnable_successors():
    data = load_data("sequences", ImageConfig(train_limit=64, test_limit=16))
    assert data.input_shape == (16,)
    assert torch.equal(data.train.inputs[:, 1:], data.train.labels[:, :-1])


def test_limits_and_names_are_checked():
    assert len(load_data("digits", ImageConfig(train_limit=5)).train) == 5
    with pytest.raises(ValueError, match="unknown data 'digit'; the nearest known name is 'digits'"):
        load_data("digit")
    with pytest.raises(ValueError, match=r"images.root has no effect on 'digits'"):
        load_data("digits", ImageConfig(root="/nowhere"))
    with pytest.raises(ValueError, match="needs images"):
        Batches(load_data("sequences"), seed=0, augment=True, device=CPU, dtype=torch.float32)


def test_every_batch_of_every_epoch_is_augmented_anew():
    """The same picture throughout: what differs between batches is how they were cropped and flipped."""
    pictures = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(6, 1, 8, 8).contiguous()
    split = Split(pictures, torch.zeros(6, dtype=torch.long))
    data = DataSet("one picture", split, split, 2, (0.5,), (0.5,))
    stream = Batches(data, seed=0, augment=True, device=CPU, dtype=torch.float32)
    first, second, later = (stream.take(Position(0, e, o), 3)[0][0] for e, o in ((0, 0), (0, 3), (1, 0)))
    assert not torch.equal(first, second)
    assert not torch.equal(first, later)
    assert torch.equal(stream.take(Position(9, 0, 3), 3)[0][0], second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_targets_that_are_numbers_have_the_type_of_the_training(dtype):
    split = Split(torch.ones(4, 3), torch.ones(4, 2, dtype=torch.float32))
    stream = Batches(DataSet("numbers", split, split, 2), seed=0, augment=False, device=CPU, dtype=dtype)
    for inputs, targets in (stream.take(Position(), 2)[0], stream.probe(2), next(stream.test(2))):
        assert (inputs.dtype, targets.dtype) == (dtype, dtype)
    tokens = Split(torch.ones(4, 3, dtype=torch.long), torch.ones(4, 3, dtype=torch.long))
    kept = Batches(DataSet("tokens", tokens, tokens, 2), seed=0, augment=False, device=CPU, dtype=dtype).probe(2)
    assert (kept[0].dtype, kept[1].dtype) == (torch.int64, torch.int64)
