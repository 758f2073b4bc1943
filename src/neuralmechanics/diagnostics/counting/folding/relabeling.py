"""Relabelings of channels: one digit of an index goes round, in the same way along many dimensions at once.

Of an index k = (a·order + i)·stride + c the digit i becomes i + 1 modulo the order. Rolled along the right dimensions
of parameters and of inputs a network stays what it was: f(gx; gθ) is f(x; θ) with its outputs relabelled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

__all__ = ["Digit", "digits_of", "mixed", "moved_indices", "rolled", "rolled_values"]

# Sizes of a digit: larger ones would only be tried in vain.
_LARGEST_ORDER = 13


@dataclass(frozen=True)
class Digit:
    """The digit ⌊k / stride⌋ mod order of an index k; a dimension has it where order·stride divides its length."""

    order: int
    stride: int

    def divides(self, length: int) -> bool:
        """Whether a dimension of that length has the digit."""
        return length > 0 and length % (self.order * self.stride) == 0


def digits_of(lengths: Sequence[int]) -> list[Digit]:
    """The digits of prime order that one of the lengths has, by order and stride.

    >>> digits_of([12])
    [Digit(order=2, stride=1), Digit(order=2, stride=2), Digit(order=2, stride=3), Digit(order=2, stride=6), \
Digit(order=3, stride=1), Digit(order=3, stride=2), Digit(order=3, stride=4)]
    """
    found = {
        Digit(order, stride)
        for length in lengths
        for order in range(2, min(length, _LARGEST_ORDER) + 1)
        # A digit of composite order is made of digits of prime order, each of which is tried by itself.
        if _prime(order)
        for stride in range(1, length // order + 1)
        if length % (order * stride) == 0
    }
    return sorted(found, key=lambda digit: (digit.order, digit.stride))


def rolled(tensor: Tensor, digit: Digit, dims: Sequence[int]) -> Tensor:
    """The tensor relabelled along the given dimensions.

    >>> rolled(torch.arange(6), Digit(2, 3), [0]).tolist()
    [3, 4, 5, 0, 1, 2]
    """
    for dim in dims:
        split = _split(tensor, digit, dim)
        tensor = split.roll(1, dim + 1).flatten(dim, dim + 2)
    return tensor


def rolled_values(tensor: Tensor, digit: Digit) -> Tensor:
    """Indices (tokens, classes) relabelled: where ``rolled`` moves row k to, that is what k becomes.

    >>> table = torch.arange(12.0)
    >>> bool((rolled(table, Digit(3, 2), [0])[rolled_values(torch.arange(12), Digit(3, 2))] == table).all())
    True
    """
    place = tensor // digit.stride % digit.order
    return tensor + ((place + 1) % digit.order - place) * digit.stride


def mixed(tensor: Tensor, digit: Digit, dims: Sequence[int]) -> Tensor:
    """The tensor made the same for every value of the digit along each of the dimensions: that of the value 0."""
    for dim in dims:
        split = _split(tensor, digit, dim)
        tensor = split.narrow(dim + 1, 0, 1).expand_as(split).flatten(dim, dim + 2)
    return tensor


def moved_indices(shapes: Sequence[torch.Size], digit: Digit, dims: Sequence[Sequence[int]]) -> Int64[Tensor, " D"]:
    """Where each entry of the flat relabelled vector comes from: gθ = θ[indices]."""
    parts, offset = [], 0
    for shape, along in zip(shapes, dims, strict=True):
        size = math.prod(shape)
        parts.append(rolled(torch.arange(size).reshape(shape), digit, along).reshape(-1) + offset)
        offset += size
    return torch.cat(parts)


def _split(tensor: Tensor, digit: Digit, dim: int) -> Tensor:
    """The dimension cut into what is above the digit, the digit, and what is below it."""
    shape = tensor.shape
    return tensor.reshape(*shape[:dim], -1, digit.order, digit.stride, *shape[dim + 1 :])


def _prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
