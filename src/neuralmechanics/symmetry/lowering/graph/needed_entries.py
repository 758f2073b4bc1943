"""Positions that are read: walking back from the outputs, which entries of each operand an operation's result needs.

Where a head selects the class token, the last block's other tokens are computed and thrown away: what would tie their
labels there ties nothing. An operand whose entries along a dimension are not all needed may be replaced by one that
repeats needed ones; the output is the same, and every interpreter then sees only what is read.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from neuralmechanics.symmetry.lowering.capture.captured import Captured, is_node, operation_name
from neuralmechanics.symmetry.lowering.capture.in_place import is_in_place
from neuralmechanics.symmetry.lowering.sizes import known
from neuralmechanics.symmetry.program.views import Take, dimension_groups

__all__ = ["Reads", "partial_reads"]

Needed = tuple[frozenset[int] | None, ...]  # for each dimension the entries that are needed; None: all
Read = list[tuple[fx.Node, Needed]]


_WRITTEN_OUT = 1 << 20  # entries up to which dimensions that merge or split are followed


@dataclass(frozen=True)
class Reads:
    """For an operation and an operand that it need not see all of, views that repeat what it does see.

    ``unread``: for a node, views of the entries that no operation needs.
    """

    repeating: Mapping[tuple[fx.Node, fx.Node], tuple[Take, ...]] = field(default_factory=dict)
    unread: Mapping[fx.Node, tuple[Take, ...]] = field(default_factory=dict)


def partial_reads(captured: Captured) -> Reads:
    """Which entries of each tensor the outputs depend on."""
    nodes = list(captured.graph.nodes)
    if any(is_in_place(node) for node in nodes):
        return Reads()
    needed: dict[fx.Node, Needed | None] = dict.fromkeys(captured.outputs)  # None: all entries
    pieces: dict[fx.Node, dict[int, Needed]] = {}
    reads: dict[tuple[fx.Node, fx.Node], tuple[Take, ...]] = {}
    for node in reversed(nodes):
        if node.op != "call_function" or (node not in needed and node not in pieces):
            continue
        if node.target is operator.getitem:
            parts = pieces.setdefault(node.args[0], {})
            shown = needed[node] or _all(node)
            parts[node.args[1]] = _joined(parts.get(node.args[1], shown), shown, node)
            continue
        seen = _seen(node, needed.get(node), pieces.get(node, {}))
        for operand in node.all_input_nodes:
            part, before = seen.get(operand), needed.get(operand)
            if part and before and operand in needed:
                needed[operand] = _some(_joined(before, part, operand))
            else:
                needed[operand] = None if operand in needed else _some(part)
            if part and operation_name(node) not in _REARRANGING and (takes := _repetitions(part, operand)):
                reads[node, operand] = takes
    leaves = {node: needed.get(node) for node in nodes if node.name in captured.parameters}
    unread = {node: _complements(part, _shape(node) or ()) for node, part in leaves.items() if part}
    return Reads(reads, unread)


def _complements(part: Needed, shape: Sequence[int]) -> tuple[Take, ...]:
    """Along each dimension, the entries that are not needed."""
    rest = [() if e is None else tuple(k for k in range(n) if k not in e) for e, n in zip(part, shape, strict=True)]
    return tuple(Take(dim, positions) for dim, positions in enumerate(rest) if positions)


def _shape(node: Any) -> tuple[int, ...] | None:
    """The node's shape where the capture knows all of it."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return None
    sizes = [known(n) for n in value.shape]
    return None if None in sizes else tuple(int(n) for n in sizes if n is not None)


def _all(node: fx.Node) -> Needed:
    return (None,) * len(_shape(node) or ())


def _some(part: Needed | None) -> Needed | None:
    """The same; None where all entries are needed."""
    return part if part and any(entries is not None for entries in part) else None


def _joined(left: Needed, right: Needed, node: fx.Node) -> Needed:
    shape = _shape(node) or ()
    unions = (None if a is None or b is None else a | b for a, b in zip(left, right, strict=True))
    return tuple(None if u is not None and len(u) == n else u for u, n in zip(unions, shape, strict=True))


def _repetitions(part: Needed, operand: fx.Node) -> tuple[Take, ...]:
    """Along each dimension, unneeded entries replaced by the needed one before them (or the first needed one)."""
    takes = []
    for dim, (entries, n) in enumerate(zip(part, _shape(operand) or (), strict=True)):
        if entries is None or not entries or len(entries) == n:
            continue
        last = min(entries)
        positions = []
        for k in range(n):
            last = k if k in entries else last
            positions.append(last)
        takes.append(Take(dim, tuple(positions)))
    return tuple(takes)


def _seen(node: Any, out: Needed | None, pieces: Mapping[int, Needed]) -> dict[fx.Node, Needed]:
    """What the node reads of each operand; operands left out are read entirely."""
    name = operation_name(node)
    if out is None and name not in _TAKING | _PIECES | _CONVOLUTIONS:
        return {}
    shape = _shape(node)
    if name in _PIECES and all(_shape(operand) is not None for operand in node.all_input_nodes):
        return _of_pieces(node, name, pieces)
    if shape is None:
        return {}
    out = _all(node) if out is None else out
    if any(_shape(operand) is None for operand in node.all_input_nodes if isinstance(operand.meta.get("val"), Tensor)):
        return {}
    rule = _RULES.get(name)
    if rule is None and torch.Tag.pointwise in getattr(node.target, "tags", ()):
        rule = _pointwise
    read = rule(node, out, shape) if rule is not None else []
    found: dict[fx.Node, Needed] = {}
    for operand, part in read:
        found[operand] = _joined(found[operand], part, operand) if operand in found else part
    whole = [operand for operand in node.all_input_nodes if _times(node, operand) != _count(read, operand)]
    return {operand: part for operand, part in found.items() if operand not in whole}


def _times(node: Any, operand: fx.Node) -> int:
    found: list[Any] = []
    fx.node.map_arg((node.args, node.kwargs), found.append)
    return sum(n is operand for n in found)


def _count(read: Read, operand: fx.Node) -> int:
    return sum(n is operand for n, _ in read)


def _aligned(operand: fx.Node, out: Needed, shape: Sequence[int]) -> Needed:
    """What a broadcast operand shows of its entries."""
    mine = _shape(operand) or ()
    front = len(shape) - len(mine)
    return tuple(out[front + d] if n == shape[front + d] else None for d, n in enumerate(mine))


def _pointwise(node: Any, out: Needed, shape: Sequence[int]) -> Read:
    operands: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), operands.append)
    return [(n, _aligned(n, out, shape)) for n in operands if isinstance(n.meta.get("val"), Tensor)]


def _but_last(count: Callable[[Any], int]) -> Callable[[Any, Needed, Sequence[int]], Read]:
    """Operations that mix some last dimensions of their first operand and keep the others apart."""

    def rule(node: Any, out: Needed, shape: Sequence[int]) -> Read:
        mixed = count(node)
        x = node.args[0]
        return [(x, (*out[: len(out) - mixed], *((None,) * mixed)))] if is_node(x) else []

    return rule


def _softmax(node: Any, out: Needed, shape: Sequence[int]) -> Read:
    dim = int(node.args[1]) % len(shape)
    return [(node.args[0], tuple(None if d == dim else entries for d, entries in enumerate(out)))]


def _reduced(node: Any, out: Needed, shape: Sequence[int]) -> Read:
    mine = _shape(node.args[0]) or ()
    given = node.args[1] if len(node.args) > 1 else None
    if not isinstance(given, (int, list, tuple)) or given in ([], ()):
        return []
    dims = {int(d) % len(mine) for d in ([given] if isinstance(given, int) else given)}
    kept = iter(out)
    if len(out) == len(mine):
        return [(node.args[0], tuple(None if d in dims else entries for d, entries in enumerate(out)))]
    return [(node.args[0], tuple(None if d in dims else next(kept) for d in range(len(mine))))]


def _product(node: Any, out: Needed, shape: Sequence[int]) -> Read:
    x, y = node.args[0], node.args[1]
    if len(_shape(x) or ()) < 2 or len(_shape(y) or ()) < 2:
        return []
    rows, columns = (*out[:-1], None), (*out[:-2], None, out[-1])
    return [(x, _aligned(x, rows, (*shape[:-1], -1))), (y, _aligned(y, columns, (*shape[:-2], -1, shape[-1])))]


def _attention(node: Any, out: Needed, shape: Sequence[int]) -> Read:
    q, k, v = node.args[:3]
    over = (*out[:-2], None, None)
    return [(q, _aligned(q, (*out[:-1], None), shape)), (k, _aligned(k, over, shape)), (v, _aligned(v, over, shape))]


def _convolved(node: Any, out: Needed, shape: Sequence[int]) -> Read:
    """A kernel's taps that meet more than padding, and the places that any tap meets."""
    given = [*node.args, *(None, 1, 0, 1)[len(node.args) - 2 :]][3:6]
    x, weight = node.args[:2]
    spatial = len(_shape(weight) or ()) - 2
    if isinstance(given[1], str) or node.kwargs:
        return []
    stride, padding, dilation = ([v] * spatial if isinstance(v, int) else list(v) * (spatial // len(v)) for v in given)
    part: list[frozenset[int] | None] = [None, None]
    places: list[frozenset[int] | None] = [None] * (len(_shape(x) or ()) - spatial)
    for k in range(spatial):
        n, taps, steps = (_shape(x) or ())[k - spatial], (_shape(weight) or ())[k + 2], shape[k - spatial]
        live = frozenset(
            tap
            for tap in range(taps)
            if any(0 <= o * stride[k] - padding[k] + tap * dilation[k] < n for o in range(steps))
        )
        part.append(None if len(live) == taps else live)
        met = {o * stride[k] - padding[k] + tap * dilation[k] for tap in range(taps) for o in range(steps)}
        inside = frozenset(met & set(range(n)))
        places.append(None if len(inside) == n else inside)
    return [(x, tuple(places)), (weight, tuple(part))]


def _selected(node: Any, out: Needed, shape: Sequence[int]) -> Read:
    x, dim, at = node.args
    mine = _shape(x) or ()
    place = known(at)
    if place is None:
        return []
    dim %= len(mine)
    return [(x, (*out[:dim], frozenset({place % mine[dim]}), *out[dim:]))]


def _sliced(node: Any, out: Needed, shape: Sequence[int]) -> Read:
    given: list[Any] = [*node.args, *(0, None, None, 1)[len(node.args) - 1 :]]
    x, dim, start, end, step = given
    mine = _shape(x) or ()
    bounds = [None if bound is None else known(bound) for bound in (start, end)]
    if any(bound is not None and at is None for bound, at in zip((start, end), bounds, strict=True)):
        return []
    dim %= len(mine)
    places = range(mine[dim])[bounds[0] : bounds[1] : step]
    entries = out[dim]
    mine_read = frozenset(places if entries is None else (places[k] for k in entries))
    return [(x, (*out[:dim], None if len(mine_read) == mine[dim] else mine_read, *out[dim + 1 :]))]


def _concatenated(node: Any, out: Needed, shape: Sequence[int]) -> Read:
    dim = (int(node.args[1]) if len(node.args) > 1 else 0) % len(shape)
    read: Read = []
    start = 0
    for x in node.args[0]:
        mine = _shape(x) or ()
        if len(mine) != len(shape):
            return []
        entries = out[dim]
        here = None if entries is None else frozenset(k - start for k in entries if start <= k < start + mine[dim])
        read.append((x, (*out[:dim], None if here is not None and len(here) == mine[dim] else here, *out[dim + 1 :])))
        start += mine[dim]
    return read


def _permuted(node: Any, out: Needed, shape: Sequence[int]) -> Read:
    rank = len(shape)
    order = list(range(rank))
    if operation_name(node) == "aten.permute":
        order = [int(d) % rank for d in node.args[1]]
    elif operation_name(node) == "aten.transpose":
        a, b = int(node.args[1]), int(node.args[2])
        order[a], order[b] = order[b], order[a]
    else:
        order = order[::-1]
    return [(node.args[0], tuple(out[order.index(d)] for d in range(rank)))]


def _reshaped(node: Any, out: Needed, shape: Sequence[int]) -> Read:
    mine = _shape(node.args[0]) or ()
    part: list[frozenset[int] | None] = [None] * len(mine)
    for inside, outside in dimension_groups(mine, shape):
        sizes = [shape[d] for d in outside]
        if all(out[d] is None for d in outside) or math.prod(sizes) > _WRITTEN_OUT:
            continue
        shown = np.zeros(sizes, dtype=bool)
        shown[np.ix_(*(range(shape[d]) if (entries := out[d]) is None else sorted(entries) for d in outside))] = True
        shown = shown.reshape([mine[d] for d in inside])
        for axis, d in enumerate(inside):
            along = shown.any(axis=tuple(k for k in range(shown.ndim) if k != axis))
            part[d] = None if along.all() else frozenset(np.flatnonzero(along).tolist())
    return [(node.args[0], tuple(part))]


def _of_pieces(node: Any, name: str, pieces: Mapping[int, Needed]) -> dict[fx.Node, Needed]:
    """A tensor taken apart along one dimension: what any of the parts shows."""
    x = node.args[0]
    mine = _shape(x) or ()
    unbound = name == "aten.unbind"
    given = node.args[1:] if unbound else node.args[2:]
    dim = int(given[0] if given else node.kwargs.get("dim", 0)) % len(mine)
    start, found = 0, None
    for number, value in enumerate(node.meta["val"]):
        length = 1 if unbound else known(value.shape[dim])
        if length is None:
            return {}
        if number in pieces:
            part = pieces[number]
            entries = frozenset({0}) if unbound else part[dim]
            here = frozenset(start + k for k in (range(length) if entries is None else entries))
            whole = (*part[:dim], here, *(part[dim:] if unbound else part[dim + 1 :]))
            found = whole if found is None else _joined(found, whole, x)
        start += length
    return {} if found is None else {x: _joined(found, found, x)}


_SHAPES = ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "_reshape_alias")
_COPIES = ("clone", "contiguous", "alias", "to", "_to_copy", "dropout", "expand", "masked_fill", "detach")
_RULES: dict[str, Callable[[Any, Needed, Sequence[int]], Read]] = {
    "aten.linear": _but_last(lambda node: 1),
    "aten.layer_norm": _but_last(lambda node: len(node.args[1])),
    "aten.rms_norm": _but_last(lambda node: len(node.args[1])),
    "aten.softmax": _softmax,
    "aten.log_softmax": _softmax,
    "aten._softmax": _softmax,
    "aten._log_softmax": _softmax,
    "aten.sum": _reduced,
    "aten.mean": _reduced,
    "aten.matmul": _product,
    "aten.mm": _product,
    "aten.bmm": _product,
    "aten.scaled_dot_product_attention": _attention,
    "aten.conv1d": _convolved,
    "aten.conv2d": _convolved,
    "aten.conv3d": _convolved,
    "aten.select": _selected,
    "aten.slice": _sliced,
    "aten.cat": _concatenated,
    "aten.permute": _permuted,
    "aten.transpose": _permuted,
    "aten.t": _permuted,
    **{f"aten.{name}": _reshaped for name in _SHAPES},
    **{f"aten.{name}": _pointwise for name in _COPIES},
}
_CONVOLUTIONS = frozenset({"aten.conv1d", "aten.conv2d", "aten.conv3d"})
_TAKING = frozenset({"aten.select", "aten.slice"})
_PIECES = frozenset({"aten.split", "aten.split_with_sizes", "aten.chunk", "aten.unbind"})
_REARRANGING = _TAKING | _PIECES | {f"aten.{name}" for name in (*_SHAPES, *_COPIES, "permute", "transpose", "t", "cat")}
