"""Rotary embedding in a graph: pairs of channels that are multiplied, as complex numbers, by numbers from the data.

However it is written: half-split (i with i + D/2) or interleaved (2i with 2i + 1), on all channels or on some, with
cat, stack or complex tensors. Only what is exactly y_i = a x_i + b x_j, y_j = a x_j - b x_i counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import fx

from neuralmechanics.symmetry.lowering.graph.value_numbering import ChannelSums, Sum

__all__ = ["Rotary", "Turn", "rotary_operations"]


@dataclass(frozen=True)
class Turn:
    """The node's channels are those of ``source`` in this ``order``, each pair (i, j) turned as one complex number."""

    source: fx.Node
    order: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Rotary:
    """Rotations by the number of the node that ends each, and the numbers of nodes that nothing else reads."""

    ends: dict[int, Turn] = field(default_factory=dict)
    inner: frozenset[int] = frozenset()


def rotary_operations(graph: fx.Graph, dependent: frozenset[fx.Node]) -> Rotary:
    """Every rotation of pairs by data; a node that is not exactly one is left alone."""
    sums = ChannelSums(dependent)
    numbers = {node: k for k, node in enumerate(graph.nodes)}
    ends: dict[int, Turn] = {}
    for node in graph.nodes:
        if node not in dependent:
            continue
        known = sums.read(node)
        turn = None if known is None else _turn(known)
        if turn is not None:
            ends[numbers[node]] = turn
        elif known is not None:
            sums.sums[node] = known
    return Rotary(ends, _inner(graph, ends, numbers, dependent))


def _turn(known: Sum) -> Turn | None:
    """The rotation that a sum of two terms is, if it is one."""
    if len(known.terms) != 2 or known.imaginary is not None or not known.terms[0].channel.size:
        return None
    first, second = (
        np.stack([t.sign.reshape(-1), t.channel.reshape(-1), t.factor.reshape(-1)], axis=1).tolist()
        for t in known.terms
    )
    rows: dict[frozenset[int], list[tuple[Any, Any]]] = {}
    for one, other in zip(first, second, strict=True):
        rows.setdefault(frozenset((one[1], other[1])), []).append((one, other))
    if any(len(pair) != 2 or len(both) != 2 for pair, both in rows.items()):
        return None
    chosen: dict[tuple[Any, ...], int] = {}
    for pair, (here, there) in rows.items():
        place = _main(here, there, min(pair), max(pair))
        if place is None:
            return None
        chosen[tuple(map(tuple, here))], chosen[tuple(map(tuple, there))] = place
    order = [chosen[tuple(one), tuple(other)] for one, other in zip(first, second, strict=True)]
    pairs = tuple(sorted((min(p), max(p)) for p in rows))
    return Turn(known.source, tuple(order), pairs)


def _main(here: Any, there: Any, i: int, j: int) -> tuple[int, int] | None:
    """(i, j) where the first row is a x_i + b x_j and the second a x_j - b x_i; (j, i) the other way round."""
    a, b = ({term[1]: (term[0], term[2]) for term in row} for row in (here, there))
    for m, n in ((i, j), (j, i)):
        if a[m] == b[n] and a[n] == (-b[m][0], b[m][1]):
            return m, n
    return None


def _inner(
    graph: fx.Graph, ends: dict[int, Turn], numbers: dict[fx.Node, int], dependent: frozenset[fx.Node]
) -> frozenset[int]:
    """Nodes between sources and ends whose values only ends read."""
    finals = {node for node in graph.nodes if numbers[node] in ends}
    sources = {turn.source for turn in ends.values()}
    inner: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        readers = [u for u in node.users if u in finals or u in inner or not _silent(u)]
        between = node in dependent and node not in finals and node not in sources and node.op == "call_function"
        if between and readers and all(u in inner or u in finals for u in readers):
            inner.add(node)
    return frozenset(numbers[node] for node in inner)


def _silent(node: Any) -> bool:
    """An operation on a tensor's description alone."""
    return "assert_tensor_metadata" in str(node.target)
