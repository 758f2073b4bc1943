"""Entries picked by indices, and new tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import operation_name
from neuralmechanics.symmetry.lowering.graph.known_entries import entries_of
from neuralmechanics.symmetry.lowering.rules.functions import bound, function_of, outcome
from neuralmechanics.symmetry.lowering.rules.indices.index_arguments import (
    is_narrow,
    joined_index,
    places_not_followed,
    positions_in,
    told_apart,
)
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import expand, reshape, take
from neuralmechanics.symmetry.lowering.rules.registry import Operand, rule
from neuralmechanics.symmetry.lowering.sizes import meta_shape
from neuralmechanics.symmetry.program.attributes.function import COUNTING, INDEX, ONE_HOT, Function
from neuralmechanics.symmetry.program.attributes.index import Places
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.conditions import PaddingRow
from neuralmechanics.symmetry.program.refusals import NotSoughtError, Reason
from neuralmechanics.symmetry.program.value import Value, is_value


@rule("embedding")
def embedding(
    d: Builder,
    node: Any,
    weight: Value,
    index: Value,
    padding: int = -1,
    scale_grad_by_freq: bool = False,
    *_: object,
    **__: object,
) -> Value:
    """Row index[…] of the table."""
    refuse_counted_gradients(scale_grad_by_freq)
    d.fix(index)
    # The padding row gets no gradient, which is noted of a gather: read by a slice it would seem like any other.
    positions = positions_in(node.args[1], weight.shape[0]) if padding < 0 else None
    if positions is not None and len(positions) == math.prod(index.shape):
        return reshape(d, take(d, weight, 0, positions), (*index.shape, *weight.shape[1:]))
    rows = d.gather(weight, 0, tuple(index.shape), [index], _read(node.args[1]))
    if padding >= 0:
        d.requires(PaddingRow(weight.index, padding))
    return rows


def refuse_counted_gradients(by_count: bool) -> None:
    """What the backward pass then gives is not the gradient, and keeps no charge."""
    if by_count:
        raise NotSoughtError("scale_grad_by_freq divides the gradient of each row by how often the batch takes it")


def _read(index: Value) -> Function:
    """The index itself as the places."""
    return function_of(INDEX, lambda index: index, index)


@rule("index_select")
def index_select(d: Builder, node: Any, x: Value, dim: int, index: Value) -> Value:
    d.fix(index)
    if not x.shape:
        return reshape(d, d.gather(reshape(d, x, (1,)), 0, (), [index], _zero()), meta_shape(node))
    dim %= len(x.shape)
    if (positions := positions_in(node.args[2], x.shape[dim])) is not None:
        return take(d, x, dim, positions)
    # A single number picks one entry, along a dimension that stays.
    return d.gather(x, dim, tuple(index.shape) or (1,), [index], _read(node.args[2]), some=is_narrow(node.args[2]))


def _zero() -> Function:
    return function_of("zero", lambda: torch.zeros((), dtype=torch.int64))


@rule("index")
def indexed(d: Builder, node: Any, x: Value, indices: Any) -> Value:
    """Entries along the indexed dimensions, joined into one, picked by positions that the data decide."""
    d.fix(*(index for index in indices if index is not None))
    shape = meta_shape(node)
    joined = joined_index(node.args[1], indices, x.shape)
    if joined is None:
        raise places_not_followed()
    rest = [n for k, n in enumerate(x.shape) if k not in joined.dims]
    picked = shape[joined.place : joined.place + len(shape) - len(rest)]
    if (*rest[: joined.place], *picked, *rest[joined.place :]) != shape:
        raise places_not_followed()
    used = [index for index in indices if index is not None]
    positions = joined.positions(node.args[1], x.shape)
    if positions is not None and len(positions) == math.prod(picked):
        return reshape(d, take(d, joined.flattened(d, x), joined.place, positions), shape)
    places = joined.places(node.args[1], x.shape)
    some = any(is_narrow(n) for n in node.args[1])
    how = joined.how if positions is None else Places(positions)
    return d.gather(joined.flattened(d, x), joined.place, picked, used, places, how, some)


@rule("masked_select")
def masked_select(d: Builder, node: Any, x: Value, mask: Value) -> Value:
    """Entries of the flattened tensor where a mask holds."""
    d.fix(mask)
    if mask.shape != x.shape:
        raise places_not_followed()
    positions = positions_in(node.args[1], math.prod(x.shape))
    if positions is not None and len(positions) == math.prod(meta_shape(node)):
        return take(d, reshape(d, x, (math.prod(x.shape),)), 0, positions)
    places = function_of("places", lambda mask: mask.reshape(-1).nonzero()[:, 0], node.args[1])
    return d.gather(reshape(d, x, (math.prod(x.shape),)), 0, meta_shape(node), [mask], places, ("masked", x.shape))


@rule(
    "nonzero",
    "nonzero_static",
    "nonzero_numpy",
    "argwhere",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "searchsorted",
    "bucketize",
    "argsort",
    "masked_scatter",
)
def decided(d: Builder, node: fx.Node, *xs: Value, **kwargs: object) -> Value:
    """Positions, counts and rearrangements that the data decide: what decides them may not move."""
    raise NotSoughtError("no gradient passes what decides positions", hides=True)


@rule("item", "_local_scalar_dense")
def as_number(d: Builder, node: fx.Node, x: Value) -> int | torch.SymInt | Value:
    """The entry of a tensor with one entry, as a number: it may not move."""
    d.fix(x, reason=_decided(d))
    value = node.meta.get("val")
    return value if isinstance(value, (int, torch.SymInt)) else d.constant((), function=_as_tensor(node))


def _as_tensor(node: fx.Node) -> Function:
    """A number of the run."""
    return function_of("number", lambda n: torch.as_tensor(n, dtype=torch.float64), node)


@rule("sym_size", "sym_numel", "sym_stride", "sym_storage_offset")
def size(d: Builder, node: fx.Node, x: Value, *_: object) -> Any:
    """Shapes only: no parameter moves them."""
    return node.meta["val"]


@rule(
    "ge", "gt", "le", "lt", "eq", "ne", "add", "sub", "mul", "floordiv", "truediv", "mod", "pow", "neg", "and_", "or_",
    "not_", "sym_max", "sym_min", "sym_not", "sym_ite", "sym_float", "sym_int", "sym_sum", prefix="",
)  # fmt: skip
def arithmetic(d: Builder, node: fx.Node, *xs: Value, **__: object) -> Any:
    """Numbers made of sizes and of entries that may not move."""
    d.fix(*(x for x in xs if is_value(x)), reason=_decided(d))
    value = node.meta.get("val")
    known = isinstance(value, (int, torch.SymInt, torch.SymBool))
    return value if known else d.constant((), function=_as_tensor(node))


@rule("_assert_scalar", "_assert_async", "sym_constrain_range", "sym_constrain_range_for_size")
def asserted(d: Builder, node: fx.Node, *xs: Value, **__: object) -> None:
    """A statement about numbers, which may not move."""
    d.fix(*(x for x in xs if is_value(x)), reason=_decided(d))


def _decided(d: Builder) -> Reason:
    return Reason("not sought", str(d.cause), "what is decided by a number that is read is not looked at")


@rule("gather")
def gathered(d: Builder, node: Any, x: Value, dim: int, index: Value, **__: object) -> Value:
    """Along ``dim``, every position of the output picks its own entry; of other dimensions the first ones are read."""
    shape = meta_shape(node)
    d.fix(index)
    if not x.shape:
        return x
    for k, n in enumerate(shape):
        if k != dim % len(x.shape) and n < x.shape[k]:
            x = take(d, x, k, range(n))
    dim %= len(x.shape)
    if (positions := positions_in(node.args[2], x.shape[dim], dim)) is not None:
        return take(d, x, dim, positions)
    return _picked(d, x, dim, shape, index, node.args[2], bound(node))


@rule("take_along_dim")
def taken_along(d: Builder, node: Any, x: Value, index: Value, dim: int | None = None) -> Value:
    """The same with tensor and index broadcast against each other; without ``dim`` of the flattened tensor."""
    d.fix(index)
    shape = meta_shape(node)
    along = dim
    if dim is None:
        x, dim = reshape(d, x, (math.prod(x.shape),)), 0
    dim %= len(x.shape)
    full = tuple(x.shape[k] if k == dim else n for k, n in enumerate(shape))
    x = expand(d, x, full) if full != x.shape else x
    if (positions := positions_in(node.args[1], x.shape[dim], along)) is not None:
        return take(d, x, dim, positions)
    read = function_of("take_along_dim", torch.take_along_dim, node.args[1], dim)
    return _picked(d, x, dim, shape, index, node.args[1], read)


def _picked(d: Builder, x: Value, dim: int, shape: Sequence[int], index: Value, node: Any, read: Function) -> Value:
    return d.resized(d.spread_along(x, dim, told_apart(node, dim), [index], some=is_narrow(node)), shape, read)


@rule("one_hot")
def one_hot(d: Builder, node: Any, x: Value, *_: object) -> Value:
    """Ones in the places that the entries name, which may not move."""
    d.fix(x)
    if x.depends:
        return d.constant(meta_shape(node), nonnegative=True, function=outcome(node))
    shape = meta_shape(node)
    ones = function_of(ONE_HOT, lambda places: torch.nn.functional.one_hot(places, shape[-1]), node.args[0])
    places = positions_in(node.args[0], shape[-1])
    return d.computed(shape, (ONE_HOT, shape[-1], places and Places(places)), False, ones, [x])


@rule("bernoulli", "normal")
def drawn(d: Builder, node: fx.Node, *xs: Operand, **__: object) -> Value:
    """Random numbers, of which the operands may be the distribution: it may not move."""
    d.fix(*(x for x in xs if isinstance(x, Value) and x.depends))
    return d.constant(meta_shape(node), function=outcome(node))


@rule(
    "arange",
    "zeros",
    "ones",
    "full",
    "empty",
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
    "rand_like",
    "randn_like",
    "new_zeros",
    "new_ones",
    "new_full",
    "new_empty",
    "scalar_tensor",
    "cauchy",
    "exponential",
    "geometric",
    "log_normal",
    "random",
    "uniform",
)
def fresh(d: Builder, node: fx.Node, *_: object, **__: object) -> Value:
    """Shapes only: the values of the input do not matter."""
    number = _filling(node)
    made = replace(outcome(node), name=COUNTING) if _counts(node) else outcome(node)
    return d.constant(meta_shape(node), number, function=made if number is None else None)


def _counts(node: fx.Node) -> bool:
    """Whether the numbers 0, 1, … are made."""
    found = entries_of(node) if operation_name(node) == "aten.arange" else None
    return found is not None and found.tolist() == list(range(len(found)))


def _filling(node: fx.Node) -> float | None:
    """The number that a new tensor is filled with."""
    name = operation_name(node).removeprefix("aten.").removeprefix("new_").removesuffix("_like")
    if name in ("zeros", "ones", "empty"):  # what stands in memory is nothing that a model may depend on
        return float(name == "ones")
    given = node.args[-1:] if name == "full" else node.args[:1] if name == "scalar_tensor" else ()
    return float(given[0]) if given and isinstance(given[0], (int, float)) else None
