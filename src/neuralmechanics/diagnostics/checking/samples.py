"""Gradients of single samples, where the loss is a mean or a sum over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from neuralmechanics.functional.pure_loss import Objective

__all__ = ["separate", "split"]

# What a model raises on a batch of one sample that it was not written for.
_REFUSALS = (RuntimeError, ValueError, IndexError, TypeError, AssertionError, KeyError)


def split(batch: Any) -> list[Any]:
    """The samples of a batch, each a batch of one: all tensors cut along their first dimension.

    Empty where the tensors' first dimensions differ, so that there is no such thing as a sample.

    >>> [x.tolist() for x, y in split((torch.tensor([[1], [2]]), torch.tensor([0, 1])))]
    [[[1]], [[2]]]
    """
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)}
    if len(sizes) != 1 or 0 in sizes:
        return []

    def cut(index: int) -> Any:
        return pytree.tree_map(lambda leaf: leaf[index : index + 1] if isinstance(leaf, Tensor) else leaf, batch)

    return [cut(index) for index in range(sizes.pop())]


def separate(
    objective: Objective, params: Mapping[str, Tensor], loss: float, tolerance: float, most: int
) -> list[Objective]:
    """The losses of up to ``most`` single samples, if their mean or sum over the whole batch is the batch's loss.

    Batch statistics, weighted means and dropout couple the samples: then the result is empty.
    """
    samples = split(objective.batch)
    if len(samples) < 2:
        return []
    objectives = [objective.on(sample) for sample in samples]
    try:
        values = torch.tensor([each.value(params) for each in objectives], dtype=torch.float64)
    except _REFUSALS:
        return []
    total = float(values.sum())
    scale = float(values.abs().mean()) + abs(loss)
    apart = min(abs(total - loss) / len(samples), abs(total / len(samples) - loss))
    return objectives[:most] if apart <= tolerance * scale else []
