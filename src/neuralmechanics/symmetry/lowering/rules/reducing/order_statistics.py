"""One entry of many, chosen by the order of their size, and products of many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.rules.functions import bound, outcome
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import expand, reshape, take
from neuralmechanics.symmetry.lowering.rules.registry import rule, settings
from neuralmechanics.symmetry.lowering.sizes import meta_shape, meta_shape_of
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.attributes.views import Permute
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import NotSoughtError
from neuralmechanics.symmetry.program.value import Value

_FACTORS = 32  # a product is written out, one multiplication an entry


def _shaped(function: Function, shape: Sequence[int]) -> Function:
    """The same result in another shape."""
    full = tuple(shape)

    def applied(*tensors: Any) -> torch.Tensor:
        made: torch.Tensor = function.apply(*tensors)
        return made.reshape(full)

    return replace(function, apply=applied, settings=(function.settings, full))


@rule("median", "nanmedian")
def median(d: Builder, node: fx.Node, x: Value, dim: int | None = None, keepdim: bool = False) -> Any:
    """The entry in the middle, of all or along one dimension."""
    if dim is None:
        flat = reshape(d, x, (math.prod(x.shape),))
        return reshape(d, d.ordered(flat, 0, (1,), _shaped(bound(node), (1,))), ())
    return _chosen(d, node, x, dim, keepdim)


@rule("mode")
def most_frequent(d: Builder, node: fx.Node, x: Value, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent entry along a dimension, of several the smallest."""
    return _chosen(d, node, x, dim, keepdim)


@rule("kthvalue")
def of_rank(d: Builder, node: fx.Node, x: Value, rank: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The entry of a given rank along a dimension."""
    return _chosen(d, node, x, dim, keepdim)


def _chosen(d: Builder, node: fx.Node, x: Value, dim: int, keepdim: bool) -> tuple[Value, Value]:
    """One entry along a dimension and its place: a common positive factor and a common shift go through."""
    places = d.constant(meta_shape_of(node, 1), function=outcome(node, 1))
    if not x.shape:
        return x, places
    one = tuple(1 if k == dim % len(x.shape) else n for k, n in enumerate(x.shape))
    found = d.ordered(x, dim % len(x.shape), one, _shaped(bound(node, part=0), one))
    return (found if keepdim else reshape(d, found, meta_shape_of(node, 0))), places


@rule("cummax", "cummin")
def running_extreme(d: Builder, node: fx.Node, x: Value, dim: int) -> tuple[Value, Value]:
    """Up to each place the largest or the smallest entry, and where it stands."""
    places = d.constant(meta_shape_of(node, 1), function=outcome(node, 1))
    return (d.ordered(x, dim % len(x.shape), x.shape, bound(node, part=0)) if x.shape else x), places


@rule("aminmax")
def extremes(d: Builder, node: fx.Node, x: Value, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """The smallest and the largest entry, of all or along one dimension."""
    if not x.shape:
        return x, x
    dims = tuple(range(len(x.shape))) if dim is None else (dim % len(x.shape),)
    smallest, largest = (d.extremum(x, dims, keepdim, way) for way in (False, True))
    return tuple(reshape(d, v, meta_shape_of(node, k)) for k, v in enumerate((smallest, largest)))


@rule("prod")
def multiplied(
    d: Builder, node: fx.Node, x: Value, dim: int | None = None, keepdim: bool = False, **_dtype: object
) -> Value:
    """The product of few entries, of all or along one dimension: log-scales add."""
    if dim is None:
        x, dim = reshape(d, x, (math.prod(x.shape),)), 0
    if not x.shape:
        return x
    if not 0 < x.shape[dim] <= _FACTORS:
        raise NotSoughtError("the factors of a product of many are not followed")
    return reshape(d, product_along(d, x, dim), meta_shape(node))


def product_along(d: Builder, x: Value, dim: int) -> Value:
    """The product along a dimension, of which one place is left."""
    n = x.shape[dim]
    if n == 1:
        return x
    halves = (take(d, x, dim, places) for places in (range(n // 2), range(n // 2, n)))
    first, last = (product_along(d, half, dim) for half in halves)
    return d.mul(first, last)


@rule("quantile", "nanquantile")
def quantiles(
    d: Builder, node: fx.Node, x: Value, at: Any, dim: int | None = None, keepdim: bool = False, **_way: object
) -> Value:
    """Means, with fixed weights, of two neighbours in the order of all entries or of those along one dimension."""
    if isinstance(at, Value):
        d.fix(at)
    shape = meta_shape(node)
    many = math.prod(at.shape) if isinstance(at, (Value, torch.Tensor)) else 1
    if not x.shape:
        return reshape(d, expand(d, x, (many,)), shape)
    if dim is None:
        x, dim = reshape(d, x, (math.prod(x.shape),)), 0
    place = dim % len(x.shape)
    rest = (*x.shape[:place], *x.shape[place + 1 :])
    function = _shaped(bound(node), (many, *rest))

    def along(*tensors: Any) -> torch.Tensor:
        made: torch.Tensor = function.apply(*tensors)
        return made.movedim(0, place)

    sizes = (*x.shape[:place], many, *x.shape[place + 1 :])
    found = d.pool(x, (place,), sizes, False, True, settings(node), replace(function, apply=along))
    order = (place, *(k for k in range(len(x.shape)) if k != place))
    return reshape(d, found if place == 0 else d.view(found, Permute(order)), shape)
