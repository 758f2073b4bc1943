"""Minibatches in an order fixed by seed and epoch, from any position: a resumed training sees the same batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from neuralmechanics.experiments.data.augment import crop_and_flip, normalise
from neuralmechanics.experiments.data.dataset import DataSet, Split
from neuralmechanics.experiments.seeds import generator

if TYPE_CHECKING:
    from torch import Tensor

    Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Position:
    """Where in the stream of examples a training stands: optimiser steps made, epoch, examples used in it."""

    step: int = 0
    epoch: int = 0
    offset: int = 0


def advance(position: Position, size: int, examples: int) -> Position:
    """The position after one batch of `size` of an epoch of `examples`."""
    end = min(position.offset + size, examples)
    # A rest of one example would have no variance for batch norm.
    if examples - end < min(2, size):
        return Position(position.step + 1, position.epoch + 1, 0)
    return Position(position.step + 1, position.epoch, end)


class Batches:
    """The stream of training batches of one data set; holds the current epoch's order and nothing else."""

    def __init__(self, data: DataSet, *, seed: int, augment: bool, device: torch.device, dtype: torch.dtype) -> None:
        if augment and not data.mean:
            raise ValueError(f"images.augment needs images of bytes; {data.name!r} holds none")
        self.data = data
        self._seed = seed
        self._augment = augment
        self._device = device
        self._dtype = dtype
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def take(self, position: Position, size: int) -> tuple[Batch, Position]:
        """The batch at `position` and the position after it.

        The last batch of an epoch is shorter; a rest of a single example is left out, for batch norm has no
        variance there.
        """
        split = self.data.train
        # An epoch's order follows from seed and epoch alone, so a resumed run draws it anew.
        if position.epoch != self._epoch:
            self._order = torch.randperm(len(split), generator=generator(self._seed, "order", position.epoch))
            self._epoch = position.epoch
        index = self._order[position.offset : position.offset + size]
        batch = self._prepare(split, index, position if self._augment else None)
        return batch, advance(position, size, len(split))

    def test(self, size: int = 512) -> Iterator[Batch]:
        """The test examples once, in order, never augmented."""
        for start in range(0, len(self.data.test), size):
            index = torch.arange(start, min(start + size, len(self.data.test)))
            yield self._prepare(self.data.test, index, None)

    def probe(self, size: int) -> Batch:
        """The first training examples, unaugmented: for looking at a model, not for training it."""
        return self._prepare(self.data.train, torch.arange(min(size, len(self.data.train))), None)

    def _prepare(self, split: Split, index: Tensor, augmented_at: Position | None) -> Batch:
        inputs = split.inputs[index].to(self._device, non_blocking=True)
        labels = split.labels[index].to(self._device, non_blocking=True)
        if augmented_at is not None:
            # By position: the same pictures whatever was drawn before.
            draw = generator(self._seed, "augment", augmented_at.epoch, augmented_at.offset)
            inputs = crop_and_flip(inputs, draw)
        if inputs.is_floating_point():
            inputs = inputs.to(self._dtype)
        if labels.is_floating_point():
            labels = labels.to(self._dtype)
        if self.data.mean:
            inputs = normalise(inputs, self.data.mean, self.data.std, self._dtype)
        return inputs, labels
