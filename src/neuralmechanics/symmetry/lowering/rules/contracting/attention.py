"""Attention: products of queries and keys, their softmax, and the values that it weighs."""

from __future__ import annotations

from string import ascii_letters
from typing import Any

import numpy as np
import torch
from torch import fx

from neuralmechanics.symmetry.lowering.graph.known_entries import entries_of
from neuralmechanics.symmetry.lowering.rules.functions import function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import expand, take
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.function import CAUSAL, HIDDEN, SEEN
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.conditions import SeenKeys
from neuralmechanics.symmetry.program.value import Value


@rule("scaled_dot_product_attention")
def attention(
    d: Builder,
    node: fx.Node,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """softmax(scale·q kᵀ + mask) v, head by head; grouped queries: key and value heads serve several query heads."""
    if enable_gqa:

        def repeated(x: Any) -> Any:
            # Entry by entry, 0 0 1 1: the query heads of one key head stand side by side.
            times = q.shape[-3] // x.shape[-3]
            return take(d, x, -3, [h for h in range(x.shape[-3]) for _ in range(times)])

        k, v = repeated(k), repeated(v)
    shape = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (x if x.shape[:-2] == shape else expand(d, x, (*shape, *x.shape[-2:])) for x in (q, k, v))
    batch = ascii_letters[: len(q.shape) - 2]
    scores = d.contract(q, k, Contraction(batch + "xz", batch + "yz", batch + "xy"))
    scores = d.scaled(scores, q.shape[-1] ** -0.5 if scale is None else float(scale))
    blind = False
    if mask is not None:
        scores = d.add(scores, _additive(d, node, mask))
        blind = _some_query_sees_nothing(d, node, v)
    rank = len(scores.shape)
    if mask is not None and blind:
        # torch gives zeros to a query that sees no key, where a softmax over nothing would be NaN.
        seen = function_of("seen", lambda kept: kept.any(-1, keepdim=True).double(), node.args[3])
        weights = d.softmax(scores, rank - 1, function=_SAFE, chosen=(rank - 2, rank - 1))
        weights = d.mul(weights, d.constant((*mask.shape[:-1], 1), nonnegative=True, function=seen))
    elif is_causal:
        # Which keys are seen differs from query to query: neither queries nor keys may be permuted.
        weights = d.softmax(scores, rank - 1, function=_CAUSAL, chosen=(rank - 2, rank - 1))
    else:
        weights = d.softmax(scores, rank - 1)
    if dropout > 0:
        weights = d.noise(weights, function_of("dropout", lambda w: torch.dropout(w, dropout, True), settings=dropout))
    return d.contract(weights, v, Contraction(batch + "xy", batch + "yz", batch + "xz"))


def _causal(scores: torch.Tensor) -> torch.Tensor:
    """Softmax over the entries that do not lie behind the diagonal."""
    kept = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    return torch.softmax(scores.masked_fill(~kept, -torch.inf), -1)


_CAUSAL = function_of(CAUSAL, _causal)


_SAFE = function_of(SEEN, lambda scores: torch.softmax(scores, -1).nan_to_num(0.0))


def _some_query_sees_nothing(d: Builder, node: fx.Node, v: Value) -> bool:
    """Whether the mask is known to hide all keys from a query; where it is not known, none of them is required."""
    entries = entries_of(node.args[3])
    if entries is None or entries.dtype is not torch.bool:
        d.requires(SeenKeys(v.index, d.cause.place))
        return False
    return not bool(entries.any(-1).all())


def _additive(d: Builder, node: fx.Node, mask: Value) -> Value:
    """The mask as what is added: zero where a mask of truth values holds, minus infinity elsewhere."""
    given: Any = node.args[3]
    if given.meta["val"].dtype is not torch.bool:
        return mask
    d.fix(mask)
    added = function_of(HIDDEN, lambda kept: torch.where(kept, 0.0, -torch.inf).double(), given)
    return d.constant(mask.shape, function=added)
