"""Bags of embeddings: rows of a table picked by an index, added up or compared within each bag."""

from __future__ import annotations

from typing import Any

from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import is_node, operation_name
from neuralmechanics.symmetry.lowering.rules.movement import reshape
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.lowering.sizes import meta_shape_of, shape_of
from neuralmechanics.symmetry.program.contraction import Contraction

_SUM, _MEAN, _MAX = range(3)


@rule("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(
    d: Any,
    node: fx.Node,
    weight: Any,
    index: Any,
    offsets: Any,
    scale_grad_by_freq: bool = False,
    mode: int = _SUM,
    sparse: bool = False,
    weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Any, ...]:
    """Σ, mean or maximum over the rows of a bag; an empty bag is zero, whatever the table holds."""
    d.fix(index, offsets)
    rows = d.gather(weight, 0, tuple(index.shape), node.args[1])
    shape = meta_shape_of(node, 0)
    count = rows.shape[0]
    filled = _all_filled(node, padding_idx)
    if mode == _MAX:
        out = d.pool(rows, (0,), shape, False, True, node)
    else:
        if weights is not None:
            rows = d.mul(rows, reshape(d, weights, (count, 1)))
        equal = mode == _MEAN or (filled and weights is None)
        share = d.constant((shape[0], count))
        share = d.softmax(share, 1) if equal else share  # shares of a mean sum to one
        out = d.contract(share, rows, Contraction("bn", "nd", "bd"))
        out = d.scaled(out, count / shape[0]) if equal and mode == _SUM else out
    if mode != _SUM and not filled:
        out = d.mul(out, d.constant((shape[0], 1)))
    return (out, *(d.constant(shape_of(value)) for value in node.meta["val"][1:]))


def _all_filled(node: Any, padding_idx: int | None) -> bool:
    """Whether the graph shows that no bag is empty: bags of one length, nothing left out."""
    left_out = padding_idx is not None and padding_idx >= 0
    return not left_out and is_node(node.args[2]) and operation_name(node.args[2]) == "aten.arange"
