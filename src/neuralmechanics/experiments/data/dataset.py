"""A labelled data set in memory (or mapped from disk): unsigned bytes for images, integers for tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Int64, Integer
    from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Examples and their labels; images are uint8 `[examples, channels, height, width]`, tokens int64."""

    inputs: Integer[Tensor, "examples ..."]
    labels: Int64[Tensor, "examples ..."]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, limit: int | None) -> Split:
        """The first `limit` examples, or all; of examples in the order of their classes as many from every part."""
        if limit is None or limit >= len(self):
            return self
        if _in_blocks(self.labels):
            # The first would be those of the first classes.
            spread = torch.arange(limit) * len(self) // limit
            return Split(self.inputs[spread], self.labels[spread])
        return Split(self.inputs[:limit], self.labels[:limit])


def require_labels(labels: np.ndarray[Any, Any], classes: int, source: object) -> None:
    """`ValueError` unless every label is one of the classes 0 … classes - 1."""
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        raise ValueError(
            f"{str(source)!r} holds the label {int(outside[0])}, which is none of the classes 0 to {classes - 1}"
        )


def _in_blocks(labels: Tensor) -> bool:
    """Whether examples of one class lie together: the class changes at most twice as often as there are classes."""
    if labels.ndim != 1 or labels.is_floating_point():
        return False
    changes = int((labels[1:] != labels[:-1]).sum())
    return changes < 2 * len(torch.unique(labels))


@dataclass(frozen=True)
class DataSet:
    """Training and test examples with what a network must know about them.

    `mean` and `std` are per channel, on pixels scaled to [0, 1]; both are empty for tokens, which are not scaled.
    """

    name: str
    train: Split
    test: Split
    classes: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.train.inputs.shape[1:])

    def limited(self, train: int | None, test: int | None) -> DataSet:
        """The same data set with fewer examples."""
        return replace(self, train=self.train.first(train), test=self.test.first(test))
