"""Packed sequences: the entries within the lengths as rows of a matrix, and back."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.rules.functions import function_of, outcome
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import reshape
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.lowering.sizes import shape_of
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.value import Value


@rule("_pack_padded_sequence")
def packed(d: Builder, node: fx.Node, x: Value, lengths: Value, batch_first: bool) -> tuple[Any, Any]:
    """The entries within the lengths as rows of a matrix, in an order that the lengths decide."""
    d.fix(lengths)
    rows, sizes = (shape_of(v) for v in node.meta["val"])
    flat = reshape(d, x, (x.shape[0] * x.shape[1], *x.shape[2:]))
    front = x.shape[:2]

    def places(lengths: torch.Tensor) -> Any:
        numbers = torch.arange(math.prod(front), dtype=torch.float64).reshape(*front, 1)
        return torch.ops.aten._pack_padded_sequence(numbers, lengths, batch_first)[0][:, 0].long()

    read = function_of("packed", places, node.args[1], settings=(front, batch_first))
    picked = d.gather(flat, 0, rows[:1], [lengths], read, ("packed", front, batch_first))
    return picked, d.constant(sizes, function=outcome(node, 1))


@rule("_pad_packed_sequence")
def unpacked(
    d: Builder, node: fx.Node, x: Value, sizes: Value, batch_first: bool, padding: float, length: int
) -> tuple[Any, Any]:
    """The rows as sequences again, a number where there is nothing."""
    shape, lengths = (shape_of(v) for v in node.meta["val"])
    rows = x.shape[0]

    def places(sizes: torch.Tensor) -> Any:
        numbers = torch.arange(rows, dtype=torch.float64)[:, None]
        # -1 is no row: it marks the places that stay empty.
        return torch.ops.aten._pad_packed_sequence(numbers, sizes, batch_first, -1.0, length)[0][..., 0].long()

    def masked(picked: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        empty = (places(sizes) < 0).reshape(*shape[:2], *(1 for _ in shape[2:]))
        return picked.masked_fill(empty, padding)

    told = (rows, batch_first, length)
    read = function_of("padded", lambda sizes: places(sizes).clamp_min(0), node.args[1], settings=told)
    picked = d.gather(x, 0, shape[:2], [sizes], read, ("padded", told))
    filled = function_of("padded", masked, node.args[1], settings=told)
    return d.masked(picked, float(padding), shape, filled), d.constant(lengths, function=outcome(node, 1))
