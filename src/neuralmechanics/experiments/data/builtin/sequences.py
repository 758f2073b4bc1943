"""Procedural token sequences: a fixed second-order Markov chain, for language models."""

from __future__ import annotations

import torch
from torch import Tensor

from neuralmechanics.experiments.data.dataset import DataSet, Split
from neuralmechanics.experiments.seeds import generator

VOCABULARY = 32
_SEED = 2021


def sequences(train: int = 4096, test: int = 512, length: int = 16) -> DataSet:
    """Sequences of `length` tokens with the following token at each place as label.

    Each pair of tokens allows four successors with fixed random odds, so the best attainable loss is well below
    log 32 and needs the last two tokens.
    """
    return DataSet(
        name="sequences",
        train=_split("train", train, length),
        test=_split("test", test, length),
        classes=VOCABULARY,
    )


def _split(name: str, count: int, length: int) -> Split:
    rules = generator(_SEED, "sequences", "rules")
    successors = torch.randint(0, VOCABULARY, (VOCABULARY, VOCABULARY, 4), generator=rules)
    odds = torch.rand(VOCABULARY, VOCABULARY, 4, generator=rules) ** 2
    draw = generator(_SEED, "sequences", name)
    tokens = torch.empty(count, length + 1, dtype=torch.int64)
    tokens[:, :2] = torch.randint(0, VOCABULARY, (count, 2), generator=draw)
    for place in range(2, length + 1):
        before: tuple[Tensor, Tensor] = (tokens[:, place - 2], tokens[:, place - 1])
        choice = torch.multinomial(odds[before], 1, generator=draw)
        tokens[:, place] = successors[before].gather(1, choice)[:, 0]
    return Split(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
