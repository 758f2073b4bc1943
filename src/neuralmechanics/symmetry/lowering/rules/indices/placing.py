"""Entries put into, or added to, places of a tensor; windows of positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import is_node
from neuralmechanics.symmetry.lowering.rules.functions import IDENTITY, bound, function_of
from neuralmechanics.symmetry.lowering.rules.indices.index_arguments import (
    joined_index,
    places_not_followed,
    told_apart,
)
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import expand, reshape, take
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.lowering.sizes import known, meta_shape
from neuralmechanics.symmetry.program.attributes.function import ELSEWHERE, PUT, WRITTEN, Function
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import NotSoughtError, UnsupportedFormError
from neuralmechanics.symmetry.program.value import Value, is_value


@rule("slice_scatter")
def slice_replaced(
    d: Builder, node: fx.Node, x: Value, source: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Value:
    """x with a slice replaced: what stands before it, the source, what stands after it."""
    dim %= len(x.shape)
    if any(at is not None and known(at) is None for at in (start, end)):  # where to, the data decide
        return d.placed(x, source, dim, x.shape, (), bound(node, 0, 1))
    places = range(x.shape[dim])
    inside = places[start:end:step]
    if step != 1:
        both = d.cat([x, source], dim)
        return take(d, both, dim, [len(places) + inside.index(k) if k in inside else k for k in places])
    if x.number == 0:  # zeros have every label at once
        before, after = inside.start, x.shape[dim] - inside.stop
        return d.zero_padded(source, dim, before, after) if before or after else source
    parts = [take(d, x, dim, places[: inside.start]), source, take(d, x, dim, places[inside.stop :])]
    kept = [part for part in parts if part.shape[dim] > 0]
    return d.cat(kept, dim) if len(kept) > 1 else kept[0]


@rule("select_scatter")
def entry_replaced(d: Builder, node: fx.Node, x: Value, source: Value, dim: int, index: int) -> Any:
    """x with one entry along ``dim`` replaced."""
    dim, at = dim % len(x.shape), known(index)
    if at is None:
        raise UnsupportedFormError("a place that the data decide")
    at %= x.shape[dim]
    one = reshape(d, source, (*source.shape[:dim], 1, *source.shape[dim:]))
    return slice_replaced(d, node, x, one, dim, at, at + 1)


@rule("index_add", "scatter_add", "index_copy", "scatter")
def placed(d: Builder, node: fx.Node, x: Value, *rest: Any, **kwargs: Any) -> Value:
    """Entries of a source put into, or added to, places of x: both change alike, the same along the dimension."""
    shape = meta_shape(node)
    dim = next((r for r in rest if isinstance(r, int)), 0) % max(1, len(shape))
    source = rest[-1]
    if isinstance(source, bool):
        source = rest[-2]
    index = [r for r in rest if is_value(r) and r is not source]
    d.fix(*index)
    fits = is_value(source) and len(source.shape) == len(shape) and kwargs.get("reduce", "add") == "add"
    if not fits or any(n != shape[k] for k, n in enumerate(source.shape) if k != dim):
        raise places_not_followed()
    onto = None if x.number == 0 else x
    apart = told_apart(_index_of(node), dim) if "index_" not in str(node.target) else ()
    held = [0, max(k for k, a in enumerate(node.args) if is_node(a))]
    function = bound(node, *held)
    lowest = x.constant_number()
    if lowest is not None and lowest <= -1e4 and "add" not in str(node.target) and "reduce" not in kwargs:
        return _masked_elsewhere(d, node, x, source, dim, apart, lowest, function)
    alpha = float(kwargs.get("alpha", 1))
    if alpha != 1:
        source = d.scaled(source, alpha)
        function = function_of("index_add", lambda x, source, index: x.index_add(dim, index, source), node.args[2])
    adds = "add" in str(node.target) or "reduce" in kwargs
    return d.placed(onto, source, dim, shape, apart, _onto_zeros(function, onto is None, shape), adds)


@rule("scatter_reduce", "index_reduce")
def reduced_into(
    d: Builder, node: fx.Node, x: Value, dim: int, index: Value, source: Value, how: str, include_self: bool = True
) -> Value:
    """Entries of a source summed, averaged, or compared with each other, and with what stands where they are put."""
    d.fix(index)
    shape = meta_shape(node)
    fits = len(source.shape) == len(shape) and all(
        n == shape[k] for k, n in enumerate(source.shape) if k != dim % len(shape)
    )
    if how == "prod":
        raise NotSoughtError("products of entries that the data bring together are not followed")
    if not fits:
        raise places_not_followed()
    apart = told_apart(_index_of(node), dim % len(shape)) if "scatter" in str(node.target) else ()
    if how in ("amax", "amin"):  # which entry comes through is another one in each place: only its size is followed
        x, source = (d.homogeneous(v, function=IDENTITY) for v in (x, source))
    onto = None if x.number == 0 else x
    put = d.placed(onto, source, dim % len(shape), shape, apart, _onto_zeros(bound(node, 0, 3), onto is None, shape))
    return d.homogeneous(put, function=IDENTITY) if how in ("amax", "amin") else put


def _masked_elsewhere(
    d: Builder, node: Any, x: Value, source: Value, dim: int, apart: Sequence[int], lowest: float, function: Function
) -> Value:
    """A source put onto minus infinities: the source wherever it is not masked, whatever stands beneath the mask."""
    settings = (function.settings, x.shape)
    put = replace(
        function, apply=lambda s, *xs: function.apply(s.new_zeros(x.shape), s, *xs), name=PUT, settings=settings
    )

    def masked(whole: torch.Tensor, source: torch.Tensor, *xs: Any) -> torch.Tensor:
        met = function.apply(torch.zeros_like(whole), torch.ones_like(source), *xs)
        return whole.masked_fill(met == 0, lowest)

    spread = d.resized(d.spread_along(source, dim, apart), x.shape, put)
    held = node.args[max(k for k, a in enumerate(node.args) if is_node(a))]
    elsewhere = Function(ELSEWHERE, masked, (held.name, *function.data), settings)
    return d.masked(spread, lowest, x.shape, elsewhere)


def _onto_zeros(function: Function, alone: bool, shape: Sequence[int]) -> Function:
    """What writes into its first operand, where that is left out: into zeros."""
    if not alone:
        return function
    settings = (function.settings, tuple(shape))
    return replace(
        function, apply=lambda source, *xs: function.apply(source.new_zeros(shape), source, *xs), settings=settings
    )


def _index_of(node: fx.Node) -> Any:
    """The index of ``scatter`` and ``scatter_add``: their third argument."""
    return node.args[2] if len(node.args) > 2 else node.kwargs["index"]


@rule("index_put", "_index_put_impl", "_unsafe_index_put")
def index_put(d: Builder, node: Any, x: Value, indices: Any, source: Value, *rest_of: Any) -> Any:
    """The same with the indexed dimensions joined into one."""
    d.fix(*(index for index in indices if index is not None))
    shape = meta_shape(node)
    joined = joined_index(node.args[1], indices, x.shape)
    onto = None if x.number == 0 else x
    if joined is None:
        raise places_not_followed()
    rest = [n for k, n in enumerate(shape) if k not in joined.dims]
    count = len(source.shape) - len(rest)
    full = (*rest[: joined.place], *source.shape[joined.place : joined.place + count], *rest[joined.place :])
    if count < 1 or tuple(source.shape) != full:
        if count > 0 or (is_value(source) and source.depends):
            raise places_not_followed()
        full = (*rest[: joined.place], 1, *rest[joined.place :])
        source, count = expand(d, source, full), 1
    end = joined.place + count
    flat = (*full[: joined.place], math.prod(full[joined.place : end]), *full[end:])
    source = reshape(d, source, flat)
    total = math.prod(shape[k] for k in joined.dims)
    even = (*flat[: joined.place], total, *flat[joined.place + 1 :])
    adds = next((a for a in rest_of if isinstance(a, bool)), False)
    places, at = joined.places(node.args[1], x.shape), joined.place
    written = function_of(
        WRITTEN,
        lambda onto, source, *index: _written(onto, source, at, places.apply(*index), adds),
        *(n for n in node.args[1] if n is not None),
        settings=(adds, places.settings),
    )
    target = None if onto is None else joined.flattened(d, onto)
    put = d.placed(target, source, joined.place, even, (), _onto_zeros(written, onto is None, even), adds)
    return joined.restored(d, put, shape)


def _written(onto: torch.Tensor, source: torch.Tensor, dim: int, places: torch.Tensor, adds: bool) -> torch.Tensor:
    """``onto`` with entries along ``dim`` replaced by, or increased by, those of the source."""
    places = places.reshape(-1)
    shape = (*source.shape[:dim], len(places), *source.shape[dim + 1 :])
    into = onto.index_add if adds else onto.index_copy
    return into(dim, places, source.expand(shape))


@rule("im2col")
def windows(
    d: Builder, node: Any, x: Value, kernel: Sequence[int], dilation: Any, padding: Sequence[int], *_: object
) -> Value:
    """Every window of positions as a column, channel by channel."""
    shape = meta_shape(node)
    for place, size in zip((-2, -1), padding, strict=True):
        x = d.zero_padded(x, len(x.shape) + place, size, size) if size else x
    *front, height, width = x.shape
    flat = reshape(d, x, (*front, height * width))
    stride = node.args[4]

    def positions() -> torch.Tensor:
        places = torch.arange(height * width, dtype=torch.float64).reshape(1, 1, height, width)
        return torch.nn.functional.unfold(places, tuple(kernel), dilation, 0, stride)[0].long()

    settings = (height, width, tuple(kernel), tuple(dilation), tuple(stride))
    places = function_of("im2col", positions, settings=settings)
    picked = d.gather(flat, len(front), (math.prod(kernel), shape[-1]), [], places, ("im2col", settings))
    return reshape(d, picked, shape)


@rule("col2im")
def folded(d: Builder, node: fx.Node, x: Value, size: Any, kernel: Sequence[int], *_: object) -> Value:
    """Columns added into the windows that they came from; what falls into the padding is dropped."""
    shape = meta_shape(node)
    flat = reshape(d, x, (*shape[:-2], math.prod(kernel) * x.shape[-1]))
    folds = bound(node)
    columns = tuple(x.shape)
    onto = replace(
        folds, apply=lambda flat: folds.apply(flat.reshape(columns)).flatten(-2), settings=(folds.settings, columns)
    )
    put = d.placed(None, flat, len(shape) - 2, (*shape[:-2], math.prod(shape[-2:])), (), onto)
    return reshape(d, put, shape)
