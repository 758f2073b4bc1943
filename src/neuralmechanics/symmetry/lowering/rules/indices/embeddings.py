"""Bags of embeddings: rows of a table picked by an index, added up or compared within each bag."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import is_node, operation_name
from neuralmechanics.symmetry.lowering.rules.functions import function_of, outcome
from neuralmechanics.symmetry.lowering.rules.indices.indexing import refuse_counted_gradients
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import reshape
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.lowering.sizes import meta_shape_of, shape_of
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.function import INDEX, Function
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.value import Value

_SUM, _MEAN, _MAX = range(3)


@rule("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(
    d: Builder,
    node: fx.Node,
    weight: Value,
    index: Value,
    offsets: Any,
    scale_grad_by_freq: bool = False,
    mode: int = _SUM,
    sparse: bool = False,
    weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Any, ...]:
    """Σ, mean or maximum over the rows of a bag; an empty bag is zero, whatever the table holds."""
    refuse_counted_gradients(scale_grad_by_freq)
    d.fix(index, offsets)
    places = function_of(INDEX, lambda index: index, node.args[1])
    rows = d.gather(weight, 0, tuple(index.shape), [index], places)
    shape = meta_shape_of(node, 0)
    count = rows.shape[0]
    filled = _all_filled(node, padding_idx)
    bags = _Bags(node, include_last_offset, padding_idx)
    if mode == _MAX:
        out = d.pool(rows, (0,), shape, False, True, node, bags.function("largest", _largest))
    else:
        if weights is not None:
            rows = d.mul(rows, reshape(d, weights, (count, 1)))
        equal = mode == _MEAN or (filled and weights is None)
        share = d.constant(
            (shape[0], count), nonnegative=True, function=bags.function("bags", lambda member: member.double())
        )
        means = bags.function("shares", lambda share, member: _shares(member))
        share = d.softmax(share, 1, function=means) if equal else share  # shares of a mean sum to one
        out = d.contract(share, rows, Contraction("bn", "nd", "bd"))
        # Bags of one length: their sums are their means times that length.
        out = d.scaled(out, count / shape[0]) if equal and mode == _SUM else out
    if mode != _SUM and not filled:
        # An empty bag is zero whatever the table holds, so that a shift of the table does not show there.
        some = bags.function("filled", lambda member: member.any(1, keepdim=True).double())
        out = d.mul(out, d.constant((shape[0], 1), nonnegative=True, function=some))
    rest = enumerate(node.meta["val"][1:], 1)
    return (out, *(d.constant(shape_of(value), function=outcome(node, k)) for k, value in rest))


@dataclass(frozen=True)
class _Bags:
    """Which rows each bag holds."""

    node: fx.Node
    last_given: bool
    left_out: int | None

    def function(self, name: str, apply: Callable[..., torch.Tensor]) -> Function:
        """A function of the operands and of [bag, row]: whether the bag holds the row."""
        index, offsets = self.node.args[1:3]
        settings = (self.last_given, self.left_out)
        return function_of(name, lambda *xs: apply(*xs[:-2], self._member(*xs[-2:])), index, offsets, settings=settings)

    def _member(self, index: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        rows = torch.arange(len(index))
        starts = offsets[:-1] if self.last_given else offsets
        ends = offsets[1:] if self.last_given else torch.cat([offsets[1:], offsets.new_tensor([len(index)])])
        member = (rows >= starts[:, None]) & (rows < ends[:, None])
        return member if self.left_out is None or self.left_out < 0 else member & (index != self.left_out)


def _shares(member: torch.Tensor) -> torch.Tensor:
    return member.double() / member.sum(1, keepdim=True).clamp_min(1)


def _largest(rows: torch.Tensor, member: torch.Tensor) -> torch.Tensor:
    """The largest row of every bag, entry by entry; zero where there is none."""
    found = rows.masked_fill(~member[:, :, None], -torch.inf).amax(1)
    return torch.where(member.any(1)[:, None], found, 0.0)


def _all_filled(node: Any, padding_idx: int | None) -> bool:
    """Whether the graph shows that no bag is empty: bags of one length, nothing left out."""
    left_out = padding_idx is not None and padding_idx >= 0
    return not left_out and is_node(node.args[2]) and operation_name(node.args[2]) == "aten.arange"
