"""Channels as sums of other channels times data: y_k = Σ ± d_k · x_i(k), read off the graph by value numbers.

A rotary embedding is a sum of two such terms however it is written: half-split or interleaved, with cat, stack or
complex numbers. Data (cosines, sines, tables) are numbered, so that two channels multiplied by equal numbers are seen
to be; the channels are those of a tensor's last dimension, which a reshape may split in two.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import is_node, operation_name
from neuralmechanics.symmetry.lowering.sizes import shape_of

__all__ = ["ChannelSums", "Sum", "Term"]

_CASTS = frozenset(f"aten.{n}" for n in ("to", "_to_copy", "type_as", "clone", "contiguous", "alias", "detach"))
_LEADING = frozenset(f"aten.{n}" for n in ("unsqueeze", "expand", "transpose", "permute", "slice", "select", "index"))
_ELEMENTWISE = frozenset(
    f"aten.{n}" for n in ("cos", "sin", "neg", "mul", "div", "add", "sub", "polar", "exp", "complex", "outer")
)
_VIEWS = frozenset(f"aten.{n}" for n in ("view", "reshape", "flatten", "unflatten", "unsqueeze", "_unsafe_view"))
_DEEPEST = 200  # operations on data that are followed back; what is further away counts as new


@dataclass(frozen=True, eq=False)
class Term:
    """sign · factor · channel, elementwise; factor 0 stands for one. All three have the tensor's trailing shape."""

    sign: np.ndarray
    channel: np.ndarray
    factor: np.ndarray

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> Term:
        return Term(move(self.sign), move(self.channel), move(self.factor))


@dataclass(frozen=True, eq=False)
class Sum:
    """A tensor as a sum of terms in the channels of ``source``; ``imaginary`` holds those of the imaginary part."""

    source: fx.Node
    terms: tuple[Term, ...]
    imaginary: tuple[Term, ...] | None = None

    def block(self) -> int:
        """How many trailing dimensions the channels take up."""
        return self.terms[0].sign.ndim

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> Sum:
        return replace(self, terms=tuple(t.moved(move) for t in self.terms))


class ChannelSums:
    """Reads a graph from front to back; ``dependent`` are the nodes that parameters reach."""

    def __init__(self, dependent: frozenset[fx.Node]) -> None:
        self.dependent = dependent
        self.sums: dict[fx.Node, Sum] = {}
        self._data: dict[fx.Node, np.ndarray] = {}
        self._numbers: dict[Hashable, int] = {}

    # --- data -----------------------------------------------------------------------------------------------------

    def _number(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers) + 1)

    def _numbered(self, key: Hashable, *arrays: np.ndarray) -> np.ndarray:
        """For every place of the broadcast arrays, the number of (key, their entries)."""
        full = np.broadcast_arrays(*arrays)
        rows = np.stack([a.reshape(-1) for a in full], axis=1).tolist()
        return np.array([self._number((key, *row)) for row in rows]).reshape(full[0].shape)

    def data(self, node: Any, depth: int = 0) -> np.ndarray:
        """A number for every channel of a tensor that no parameter reaches, equal where the channels are equal."""
        if node not in self._data:
            found = None
            if node.op == "call_function" and depth < _DEEPEST:
                try:
                    found = self._read_data(node, depth + 1)
                except (TypeError, ValueError, IndexError, KeyError, AttributeError):
                    found = None  # a form that is not understood: its channels are new
            if found is None:
                shape = _shape(node)
                found = self._numbered(("new", node.name), np.arange(shape[-1] if shape else 1))
            self._data[node] = found
        return self._data[node]

    def _read_data(self, node: Any, depth: int) -> np.ndarray | None:
        name = operation_name(node)
        shape = _shape(node)
        if name in _CASTS:
            return self.data(node.args[0], depth)
        if name in _LEADING and _channels_kept(node):
            own = self.data(node.args[0], depth)
            return self._numbered((name, _settings(node), shape[: len(shape) - own.ndim]), own)
        moved = _rearranged(node, lambda n: self.data(n, depth))
        if moved is not None:
            while moved.ndim > 1 and moved.shape[0] == 1:  # a dimension in front of the channels
                moved = self._numbered(("inserted", shape), moved[0])
            return moved if moved.shape[-1] > 1 or moved.ndim == 1 else None
        if name == "aten.view_as_real":
            whole = self.data(node.args[0], depth)
            return np.stack([self._numbered("real", whole), self._numbered("imaginary", whole)], axis=-1)
        if name in _ELEMENTWISE and shape:
            tensors = [a for a in node.args if is_node(a)]
            arrays = [self.data(a, depth) for a in tensors]
            front = [_shape(a)[: len(_shape(a)) - v.ndim] for a, v in zip(tensors, arrays, strict=True)]
            return self._numbered((name, _settings(node), tuple(map(len, front))), *arrays)
        return None

    # --- what parameters reach ------------------------------------------------------------------------------------

    def known(self, node: Any) -> Sum:
        """The tensor as it is known, or as its own source."""
        if node not in self.sums:
            self.sums[node] = _own(node)
        return self.sums[node]

    def read(self, node: Any) -> Sum | None:
        """The operation's result as a sum of channels of what it reads; None where it is something else."""
        if node.op != "call_function" or (not _shape(node) and node.target is not operator.getitem):
            return None
        try:
            return self._read(node)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            return None  # a form that is not understood: a source of its own

    def _read(self, node: Any) -> Sum | None:
        name = operation_name(node)
        if name in _CASTS:
            return self.known(node.args[0])
        if name == "aten.neg":
            own = self.known(node.args[0])
            return replace(own, terms=tuple(replace(t, sign=-t.sign) for t in own.terms)) if not own.imaginary else None
        if name == "aten.mul":
            return self._product(*node.args[:2])
        if name in ("aten.add", "aten.sub") and all(is_node(a) and a in self.dependent for a in node.args[:2]):
            x, y = node.args[:2]
            return self._added(x, y, -1 if name == "aten.sub" else 1) if not node.kwargs else None
        if name == "aten.view_as_complex":
            own = self.known(node.args[0])
            real, imaginary = own.moved(lambda a: a[..., 0]).terms, own.moved(lambda a: a[..., 1]).terms
            return Sum(own.source, real, imaginary) if own.block() == 2 and not own.imaginary else None
        if name == "aten.view_as_real":
            return self._paired(self.sums[node.args[0]])
        found = self._rearranged(node)
        if found is None and name in _VIEWS and self.known(node.args[0]).source is not node.args[0]:
            self.sums[node.args[0]] = _own(node.args[0])  # heads were split before: the channels of one head
            found = self._rearranged(node)
        return found

    def _product(self, x: Any, y: Any) -> Sum | None:
        if not (is_node(x) and is_node(y)) or (x in self.dependent) == (y in self.dependent):
            return None
        x, y = (x, y) if x in self.dependent else (y, x)
        own, data = self.known(x), self.data(y)
        if any(t.factor.any() for t in own.terms) or len(_shape(y)) > len(_shape(x)):
            return None
        if own.imaginary is None:
            return replace(own, terms=tuple(_times(t, data) for t in own.terms))
        real, imaginary = self._numbered("real", data), self._numbered("imaginary", data)
        (a,), (b,) = own.terms, own.imaginary
        turned = _times(replace(b, sign=-b.sign), imaginary)
        return Sum(own.source, (_times(a, real), turned), (_times(a, imaginary), _times(b, real)))

    def _added(self, x: Any, y: Any, sign: int) -> Sum | None:
        first, second = self.known(x), self.known(y)
        same = first.source is second.source and _shape(x) == _shape(y) and not (first.imaginary or second.imaginary)
        if not same or first.block() != second.block() or len(first.terms) + len(second.terms) != 2:
            return None
        return replace(first, terms=(*first.terms, *(replace(t, sign=sign * t.sign) for t in second.terms)))

    def _paired(self, own: Sum) -> Sum | None:
        if own.imaginary is None or len(own.terms) != len(own.imaginary):
            return None
        terms = [
            Term(*(np.stack([getattr(a, f), getattr(b, f)], axis=-1) for f in ("sign", "channel", "factor")))
            for a, b in zip(own.terms, own.imaginary, strict=True)
        ]
        return Sum(own.source, tuple(terms))

    def _rearranged(self, node: Any) -> Sum | None:
        """Rearrangements of the channels of one source."""
        read = [n for n in node.all_input_nodes if n in self.dependent]
        whole = [n.args[0] if operation_name(n) in _PARTED else n for n in read] if _is_part(node) else read
        sums = [self.known(n) for n in whole]
        first = sums[0]
        if any(s.source is not first.source or s.imaginary or len(s.terms) != len(first.terms) for s in sums):
            return None
        fields = []
        for k in range(len(first.terms)):
            for field in ("sign", "channel", "factor"):
                by_node = {n: getattr(s.terms[k], field) for n, s in zip(whole, sums, strict=True)}
                moved = _rearranged(node, by_node.__getitem__)
                if moved is None:
                    return None
                fields.append(moved)
        return Sum(first.source, tuple(Term(*fields[k : k + 3]) for k in range(0, len(fields), 3)))


def _own(node: Any) -> Sum:
    count = _shape(node)[-1]
    one = np.ones(count, np.int64)
    return Sum(node, (Term(one, np.arange(count), 0 * one),))


def _times(term: Term, data: np.ndarray) -> Term:
    full = np.broadcast_shapes(term.sign.shape, data.shape)
    if full != term.sign.shape:
        raise ValueError("data that widen the channels")
    return replace(term, factor=np.broadcast_to(data, full))


# --- rearrangements of trailing dimensions ------------------------------------------------------------------------

_PARTED = ("aten.split", "aten.split_with_sizes", "aten.chunk", "aten.unbind", "aten.tensor_split")


def _shape(node: Any) -> tuple[int, ...]:
    value = node.meta.get("val")
    return shape_of(value) if hasattr(value, "shape") else ()


def _settings(node: Any) -> tuple[Hashable, ...]:
    """Arguments that are no tensors; tensors by their names' places only."""
    plain = fx.node.map_arg((node.args, tuple(sorted(node.kwargs.items()))), lambda n: "tensor")
    return (str(plain),)


def _is_part(node: Any) -> bool:
    return node.target is operator.getitem and is_node(node.args[0]) and operation_name(node.args[0]) in _PARTED


def _channels_kept(node: Any) -> bool:
    """Whether an operation on leading dimensions leaves the last one alone."""
    name, before, after = operation_name(node), _shape(node.args[0]), _shape(node)
    if before[-1:] != after[-1:] or not after:
        return False
    rank = len(before)
    if name == "aten.transpose":
        return (rank - 1) not in (node.args[1] % rank, node.args[2] % rank)
    if name == "aten.permute":
        return bool(node.args[1][-1] % rank == rank - 1)
    if name == "aten.unsqueeze":
        return bool(node.args[1] % (rank + 1) != rank)
    if name in ("aten.slice", "aten.select"):
        dim = node.args[1] if len(node.args) > 1 else 0
        return bool(dim % rank != rank - 1)
    return name == "aten.expand" or (name == "aten.index" and len(node.args[1]) < rank)


def _rearranged(node: Any, of: Callable[[Any], np.ndarray]) -> np.ndarray | None:
    """What a rearrangement of the trailing dimensions makes of the arrays ``of`` its inputs; None if it is none."""
    name, shape = operation_name(node), _shape(node)
    if _is_part(node):
        return _part(node, of)
    if name in ("aten.cat", "aten.stack"):
        arrays = [of(n) for n in node.args[0]]
        place = (node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)) % len(shape) - len(shape)
        if any(a.shape != arrays[0].shape and name == "aten.stack" for a in arrays) or -place > arrays[0].ndim:
            return None
        return np.concatenate(arrays, place) if name == "aten.cat" else np.stack(arrays, place)
    if name in ("aten.slice", "aten.select", "aten.repeat_interleave") and is_node(node.args[0]):
        own, rank = of(node.args[0]), len(_shape(node.args[0]))
        if name == "aten.repeat_interleave":
            dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim")
            inside = isinstance(node.args[1], int) and dim is not None and dim % rank - rank >= -own.ndim
            return np.repeat(own, node.args[1], dim % rank - rank) if inside else None
        place = (node.args[1] if len(node.args) > 1 else 0) % rank - rank
        if -place > own.ndim:
            return None
        if name == "aten.select":
            return own.take(node.args[2], axis=place) if own.ndim > 1 else None
        start, end, step = (*node.args[2:], *(None,) * 3)[:3]
        return own.take(range(own.shape[place])[start:end:step], axis=place)
    if name in _VIEWS:
        return _reshaped(of(node.args[0]), _shape(node.args[0]), shape)
    return None


def _part(node: Any, of: Callable[[Any], np.ndarray]) -> np.ndarray | None:
    whole = node.args[0]
    source, sizes = whole.args[0], [shape_of(v) for v in whole.meta["val"]]
    own, rank = of(source), len(_shape(source))
    given = whole.args[1:] if operation_name(whole) == "aten.unbind" else whole.args[2:]
    dim = (given[0] if given else whole.kwargs.get("dim", 0)) % rank
    if rank - dim > own.ndim:
        return None
    if operation_name(whole) == "aten.unbind":
        return own.take(node.args[1], axis=dim - rank) if own.ndim > 1 else None
    start = sum(s[dim] for s in sizes[: node.args[1]])
    return own.take(range(start, start + sizes[node.args[1]][dim]), axis=dim - rank)


def _reshaped(own: np.ndarray, before: Sequence[int], after: Sequence[int]) -> np.ndarray | None:
    """The channels' array where only the trailing dimensions are split or joined."""
    front = tuple(before[: len(before) - own.ndim])
    if tuple(after[: len(front)]) != front or len(after) - len(front) not in (1, 2):
        return None
    return own.reshape(tuple(after[len(front) :]))
