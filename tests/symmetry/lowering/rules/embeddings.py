"""Calls of bags of embeddings, with every option."""

from __future__ import annotations

import torch

from .case import G, I, P
from .table import Table

table = Table()
c = table.call

_SUM, _MEAN, _MAX = range(3)
for rows, width, count in [(4, 2, 6), (3, 3, 4), (5, 1, 4)]:
    weight, index = P(rows, width), I(rows, count)
    some, empty = G(torch.arange(0, count, 2)), G(torch.tensor([0, 0, 3]))
    for name in ("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only"):
        for offsets in (some, empty):
            for mode in (_SUM, _MEAN, _MAX):
                c(name, "default", weight, index, offsets, False, mode)
            c(name, "default", weight, index, offsets, False, _SUM, False, P(count))
        c(name, "default", weight, index, G(torch.tensor([0, 1, 3, count])), False, _MEAN, False, None, True)
        if name == "embedding_bag":
            c(name, "default", weight, index, some, True, _SUM, True)
            c(name, "padding_idx", weight, index, some, True, _MEAN, False, None, False, None)
            for mode in (_SUM, _MEAN, _MAX):
                c(name, "padding_idx", weight, index, some, False, mode, False, None, False, 1)
            c(name, "padding_idx", weight, index, G(torch.tensor([0, 1, count])), False, _SUM, True, P(count), True, 1)
        else:
            c(name, "default", weight, index, some, True, _SUM, True)
            for mode in (_SUM, _MEAN, _MAX):
                c(name, "default", weight, index, some, False, mode, False, None, False, 1)
c("embedding_bag", "default", P(3, 2), I(3, 2), G(torch.arange(2)))
