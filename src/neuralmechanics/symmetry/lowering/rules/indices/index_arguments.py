"""Index arguments: which dimensions they pick from, and along which they differ."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import is_node, operation_name
from neuralmechanics.symmetry.lowering.graph.known_entries import entries_of
from neuralmechanics.symmetry.lowering.rules.functions import function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import reshape
from neuralmechanics.symmetry.lowering.sizes import shape_of
from neuralmechanics.symmetry.program.attributes.function import INDEX, Function
from neuralmechanics.symmetry.program.attributes.views import Permute
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import NotSoughtError

__all__ = ["JoinedIndex", "is_mask", "is_narrow", "joined_index", "places_not_followed", "positions_in", "told_apart"]


@dataclass(frozen=True)
class JoinedIndex:
    """The dimensions that index tensors pick from; where the picked ones stand; what else decides the positions."""

    dims: tuple[int, ...]
    place: int
    how: Hashable

    def places(self, nodes: Sequence[Any], shape: Sequence[int]) -> Function:
        """The positions along the joined dimension."""
        used = [n for n in nodes if n is not None]
        strides = [math.prod(shape[k] for k in self.dims[j + 1 :]) for j in range(len(self.dims))]
        sizes = [shape[k] for k in self.dims]

        def apply(*indices: torch.Tensor) -> Any:
            single = [i for index in indices for i in (index.nonzero().unbind(1) if is_mask(index) else (index,))]
            whole = torch.broadcast_tensors(*(i.long() for i in single))  # type: ignore[no-untyped-call]
            # Negative places count from the end.
            return sum((i % n) * s for i, n, s in zip(whole, sizes, strides, strict=True))

        return function_of(INDEX, apply, *used, settings=(tuple(sizes), self.dims))

    def positions(self, nodes: Sequence[Any], shape: Sequence[int]) -> tuple[int, ...] | None:
        """The positions along the joined dimension, where the model's code holds every index."""
        entries = [entries_of(n) for n in nodes if n is not None]
        if any(one is None for one in entries):
            return None
        places = self.places(nodes, shape).apply(*entries)
        return tuple(places.reshape(-1).tolist())

    def order(self, rank: int) -> tuple[int, ...]:
        """Dimensions with the indexed ones together at their place."""
        rest = [k for k in range(rank) if k not in self.dims]
        return (*rest[: self.place], *self.dims, *rest[self.place :])

    def flattened(self, d: Builder, x: Any) -> Any:
        """x with the indexed dimensions as one, at their place."""
        if len(self.dims) == 1 and self.dims[0] == self.place:
            return x
        order = self.order(len(x.shape))
        sizes = [x.shape[k] for k in order]
        end = self.place + len(self.dims)
        flat = (*sizes[: self.place], math.prod(sizes[self.place : end]), *sizes[end:])
        return reshape(d, d.view(x, Permute(order)), flat)

    def restored(self, d: Builder, flat: Any, shape: Sequence[int]) -> Any:
        """The inverse of ``flattened`` for a tensor of this shape."""
        order = self.order(len(shape))
        full = reshape(d, flat, [shape[k] for k in order])
        return d.view(full, Permute(tuple(order.index(k) for k in range(len(shape)))))


def is_mask(index: torch.Tensor) -> bool:
    return index.dtype in (torch.bool, torch.uint8)


def positions_in(node: fx.Node, size: int, along: int | None = None) -> tuple[int, ...] | None:
    """The places from 0 to ``size`` that an index names, in order, where the model's code holds it.

    ``along``: one list of places for this dimension of the index, if it is the same at every place along the others.
    """
    entries = entries_of(node)
    if entries is None:
        return None
    places = entries.nonzero()[:, 0] if is_mask(entries) else entries.long()
    if along is not None:
        lists = places.movedim(along, -1).reshape(-1, places.shape[along])
        if not len(lists) or not (lists == lists[:1]).all():
            return None
        places = lists[0]
    listed = places.reshape(-1).tolist()
    return tuple(k % size for k in listed) if all(-size <= k < size for k in listed) else None


def joined_index(nodes: Any, indices: Any, shape: Sequence[int]) -> JoinedIndex | None:
    """What the list of index tensors does; a mask stands for as many dimensions as it has. None: not understood."""
    dims: list[int] = []
    starts: list[int] = []
    at = 0
    for node in nodes:
        width = 1
        if node is not None:
            if not is_node(node) or node.meta["val"].dtype not in (*_WHOLE, torch.bool):
                return None
            width = len(node.meta["val"].shape) if node.meta["val"].dtype is torch.bool else 1
            if width == 0:
                return None
            starts.append(at)
            dims += range(at, at + width)
        at += width
    # Where index tensors are not side by side, torch puts what they pick in front.
    adjacent = dims == list(range(dims[0], dims[0] + len(dims)))
    masks = tuple(node.meta["val"].dtype is torch.bool for node in nodes if node is not None)
    how = () if masks == (False,) else ("joined", masks, tuple(shape[k] for k in dims))
    return JoinedIndex(tuple(dims), dims[0] if adjacent else 0, how)


_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8)


def places_not_followed() -> NotSoughtError:
    return NotSoughtError("which entries are read or written is not followed in this form", hides=True)


def is_narrow(index: Any) -> bool:
    """Whether an index is made in a way that may leave out places, whatever the data are: truth values, bounds."""
    while is_node(index) and operation_name(index) in (*_REPEATING, *_SHAPING):
        index = index.args[0]
    if not is_node(index) or index.op != "call_function":
        return False
    if operation_name(index) in _BOUNDING:
        return True
    read = index.all_input_nodes
    truths = read and all(getattr(n.meta.get("val"), "dtype", None) is torch.bool for n in read)
    return bool(truths) and index.meta["val"].dtype is not torch.bool and operation_name(index) in _TYPING


_TYPING = ("aten.to", "aten._to_copy", "aten.type_as", "prims.convert_element_type")
_BOUNDING = tuple(
    f"aten.{n}"
    for n in ("clamp", "clamp_min", "clamp_max", "clip", "remainder", "fmod", "floor_divide", "div", "bucketize",
              "searchsorted", "minimum", "maximum", "bitwise_and", "sign", "where")
)  # fmt: skip
_REPEATING = ("aten.expand", "aten.repeat", "aten.expand_as", "aten.clone")
_SHAPING = tuple(f"aten.{n}" for n in ("unsqueeze", "squeeze", "view", "reshape", "flatten", "transpose", "permute"))


def told_apart(index: Any, dim: int) -> tuple[int, ...]:
    """Dimensions other than ``dim`` along which an index of full rank may differ: not those that it was expanded to."""
    shape = shape_of(index.meta["val"])
    wide = {k for k, n in enumerate(shape) if n > 1 and k != dim}
    while is_node(index) and operation_name(index) in _REPEATING:
        index = index.args[0]
        before = shape_of(index.meta["val"])
        front = len(shape) - len(before)
        wide = {k for k in wide if k >= front and before[k - front] > 1}
    return tuple(sorted(wide))
