"""Mistakes of converters on architectures of Transformers, made tiny: each named by its tensor in a bounded time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from neuralmechanics.rewrite.comparing.checkpoints import Function
from neuralmechanics.rewrite.comparing.equivalence import compared
from neuralmechanics.rewrite.comparing.parts.network import Network

from .planting import planted, state_of

State = dict[str, Tensor]
LLAMA, GPT2 = "model.layers.0.", "transformer.h.0."
MOST = 60  # seconds of processor time


@dataclass(frozen=True)
class Mistake:
    """What is done to an exactly converted state, and the sets of tensors one of which must be named."""

    kind: str
    spoil: Callable[[State], State]
    wrong: tuple[frozenset[str], ...]


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[State], State]:
    """One tensor replaced."""
    return lambda state: {name: change(state[name])}


def one(kind: str, name: str, change: Callable[[Tensor], Tensor], *others: str) -> Mistake:
    """A mistake in one tensor; ``others`` may equally well be wrong."""
    return Mistake(kind, changed(name, change), tuple(frozenset(n.split(",")) for n in (name, *others)))


def exchanged(kind: str, first: str, second: str) -> Mistake:
    """Two tensors in each other's place."""
    return Mistake(kind, lambda s: {first: s[second], second: s[first]}, (frozenset({first, second}),))


def first_of(value: Tensor, size: int) -> Tensor:
    """Parts of this many in reverse order."""
    return value.unflatten(0, (size, -1)).flip(0).flatten(0, 1)
