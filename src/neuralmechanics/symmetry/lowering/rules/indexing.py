"""Entries picked or placed by indices."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from neuralmechanics.symmetry.lowering.capture.captured import is_node, operation_name
from neuralmechanics.symmetry.lowering.rules.functions import bound, function_of, outcome
from neuralmechanics.symmetry.lowering.rules.movement import expand, reshape, take
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.lowering.sizes import known, meta_shape, shape_of
from neuralmechanics.symmetry.program.conditions import PaddingRow
from neuralmechanics.symmetry.program.function import INDEX, Function
from neuralmechanics.symmetry.program.refusals import NotSoughtError, UnsupportedFormError
from neuralmechanics.symmetry.program.value import is_value
from neuralmechanics.symmetry.program.views import Permute


@rule("embedding")
def embedding(d: Any, node: Any, weight: Any, index: Any, padding: int = -1, *_: Any, **__: Any) -> Any:
    """Row index[…] of the table."""
    d.fix(index)
    rows = d.gather(weight, 0, tuple(index.shape), [index], _read(node.args[1]))
    if padding >= 0:
        d.requires(PaddingRow(weight.index, padding))
    return rows


def _read(index: Any) -> Function:
    """The index itself as the places."""
    return function_of(INDEX, lambda index: index, index)


@rule("index_select")
def index_select(d: Any, node: Any, x: Any, dim: int, index: Any) -> Any:
    d.fix(index)
    if not x.shape:
        return reshape(d, d.gather(reshape(d, x, (1,)), 0, (), [index], _zero()), meta_shape(node))
    return d.gather(x, dim % len(x.shape), tuple(index.shape) or (1,), [index], _read(node.args[2]))


def _zero() -> Function:
    return function_of("zero", lambda: torch.zeros((), dtype=torch.int64))


@rule("index")
def indexed(d: Any, node: Any, x: Any, indices: Any) -> Any:
    """Entries along the indexed dimensions, joined into one, picked by positions that the data decide."""
    d.fix(*(index for index in indices if index is not None))
    shape = meta_shape(node)
    joined = _joined(node.args[1], indices, x.shape)
    if joined is None:
        raise _places()
    rest = [n for k, n in enumerate(x.shape) if k not in joined.dims]
    picked = shape[joined.place : joined.place + len(shape) - len(rest)]
    if (*rest[: joined.place], *picked, *rest[joined.place :]) != shape:
        raise _places()
    used = [index for index in indices if index is not None]
    places = joined.places(node.args[1], x.shape)
    return d.gather(joined.flattened(d, x), joined.place, picked, used, places, joined.how)


@dataclass(frozen=True)
class _Joined:
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
            single = [i for index in indices for i in (index.nonzero().unbind(1) if _is_mask(index) else (index,))]
            whole = torch.broadcast_tensors(*(i.long() for i in single))  # type: ignore[no-untyped-call]
            return sum((i % n) * s for i, n, s in zip(whole, sizes, strides, strict=True))

        return function_of(INDEX, apply, *used, settings=(tuple(sizes), self.dims))

    def order(self, rank: int) -> tuple[int, ...]:
        """Dimensions with the indexed ones together at their place."""
        rest = [k for k in range(rank) if k not in self.dims]
        return (*rest[: self.place], *self.dims, *rest[self.place :])

    def flattened(self, d: Any, x: Any) -> Any:
        """x with the indexed dimensions as one, at their place."""
        if len(self.dims) == 1 and self.dims[0] == self.place:
            return x
        order = self.order(len(x.shape))
        sizes = [x.shape[k] for k in order]
        end = self.place + len(self.dims)
        flat = (*sizes[: self.place], math.prod(sizes[self.place : end]), *sizes[end:])
        return reshape(d, d.view(x, Permute(order)), flat)

    def restored(self, d: Any, flat: Any, shape: Sequence[int]) -> Any:
        """The inverse of ``flattened`` for a tensor of this shape."""
        order = self.order(len(shape))
        full = reshape(d, flat, [shape[k] for k in order])
        return d.view(full, Permute(tuple(order.index(k) for k in range(len(shape)))))


def _is_mask(index: torch.Tensor) -> bool:
    return index.dtype in (torch.bool, torch.uint8)


def _joined(nodes: Any, indices: Any, shape: Sequence[int]) -> _Joined | None:
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
    adjacent = dims == list(range(dims[0], dims[0] + len(dims)))
    masks = tuple(node.meta["val"].dtype is torch.bool for node in nodes if node is not None)
    how = () if masks == (False,) else ("joined", masks, tuple(shape[k] for k in dims))
    return _Joined(tuple(dims), dims[0] if adjacent else 0, how)


_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8)


def _places() -> NotSoughtError:
    return NotSoughtError("which entries are read or written is not followed in this form", hides=True)


@rule("masked_select")
def masked_select(d: Any, node: Any, x: Any, mask: Any) -> Any:
    """Entries of the flattened tensor where a mask holds."""
    d.fix(mask)
    if mask.shape != x.shape:
        raise _places()
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
def decided(d: Any, node: Any, *xs: Any, **kwargs: Any) -> Any:
    """Positions, counts and rearrangements that the data decide: what decides them may not move."""
    raise NotSoughtError("no gradient passes what decides positions", hides=True)


@rule("item", "_local_scalar_dense")
def as_number(d: Any, node: Any, x: Any) -> Any:
    """The entry of a tensor with one entry, as a number: it may not move."""
    d.fix(x)
    value = node.meta.get("val")
    return value if isinstance(value, (int, torch.SymInt)) else d.constant((), function=_as_tensor(node))


def _as_tensor(node: Any) -> Function:
    """A number of the run."""
    return function_of("number", lambda n: torch.as_tensor(n, dtype=torch.float64), node)


@rule("sym_size", "sym_numel", "sym_stride", "sym_storage_offset")
def size(d: Any, node: Any, x: Any, *_: Any) -> Any:
    """Shapes only: no parameter moves them."""
    return node.meta["val"]


@rule(
    "ge", "gt", "le", "lt", "eq", "ne", "add", "sub", "mul", "floordiv", "truediv", "mod", "pow", "neg", "and_", "or_",
    "not_", "sym_max", "sym_min", "sym_not", "sym_ite", "sym_float", "sym_int", "sym_sum", prefix="",
)  # fmt: skip
def arithmetic(d: Any, node: Any, *xs: Any, **__: Any) -> Any:
    """Numbers made of sizes and of entries that may not move."""
    d.fix(*(x for x in xs if is_value(x)))
    value = node.meta.get("val")
    known = isinstance(value, (int, torch.SymInt, torch.SymBool))
    return value if known else d.constant((), function=_as_tensor(node))


@rule("_assert_scalar", "_assert_async", "sym_constrain_range", "sym_constrain_range_for_size")
def asserted(d: Any, node: Any, *xs: Any, **__: Any) -> Any:
    """A statement about numbers, which may not move."""
    d.fix(*(x for x in xs if is_value(x)))


@rule("gather")
def gathered(d: Any, node: Any, x: Any, dim: int, index: Any, **__: Any) -> Any:
    """Along ``dim``, every position of the output picks its own entry; of other dimensions the first ones are read."""
    shape = meta_shape(node)
    d.fix(index)
    if not x.shape:
        return x
    for k, n in enumerate(shape):
        if k != dim % len(x.shape) and n < x.shape[k]:
            x = take(d, x, k, range(n))
    return _picked(d, x, dim % len(x.shape), shape, node.args[2], bound(node))


@rule("take_along_dim")
def taken_along(d: Any, node: Any, x: Any, index: Any, dim: int | None = None) -> Any:
    """The same with tensor and index broadcast against each other; without ``dim`` of the flattened tensor."""
    d.fix(index)
    shape = meta_shape(node)
    if dim is None:
        x, dim = reshape(d, x, (math.prod(x.shape),)), 0
    dim %= len(x.shape)
    full = tuple(x.shape[k] if k == dim else n for k, n in enumerate(shape))
    read = function_of("take_along_dim", torch.take_along_dim, node.args[1], dim)
    return _picked(d, expand(d, x, full) if full != x.shape else x, dim, shape, node.args[1], read)


def _picked(d: Any, x: Any, dim: int, shape: Sequence[int], index: Any, read: Function) -> Any:
    return d.resized(d.spread_along(x, dim, _told_apart(index, dim)), shape, read)


@rule("slice_scatter")
def slice_replaced(
    d: Any, node: Any, x: Any, source: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    """x with a slice replaced: what stands before it, the source, what stands after it."""
    dim %= len(x.shape)
    if any(at is not None and known(at) is None for at in (start, end)):
        raise UnsupportedFormError("a slice that the data decide")
    places = range(x.shape[dim])
    inside = places[start:end:step]
    if step != 1:
        both = d.cat([x, source], dim)
        return take(d, both, dim, [len(places) + inside.index(k) if k in inside else k for k in places])
    if x.number == 0:  # zeros have every label at once
        before, after = inside.start, x.shape[dim] - inside.stop
        return d.zero_padded(source, dim, before, after, 0.0) if before or after else source
    parts = [take(d, x, dim, places[: inside.start]), source, take(d, x, dim, places[inside.stop :])]
    kept = [part for part in parts if part.shape[dim] > 0]
    return d.cat(kept, dim) if len(kept) > 1 else kept[0]


@rule("select_scatter")
def entry_replaced(d: Any, node: Any, x: Any, source: Any, dim: int, index: int) -> Any:
    """x with one entry along ``dim`` replaced."""
    dim, at = dim % len(x.shape), known(index)
    if at is None:
        raise UnsupportedFormError("a place that the data decide")
    at %= x.shape[dim]
    one = reshape(d, source, (*source.shape[:dim], 1, *source.shape[dim:]))
    return slice_replaced(d, node, x, one, dim, at, at + 1)


@rule("index_add", "scatter_add", "index_copy", "scatter")
def placed(d: Any, node: Any, x: Any, *rest: Any, **kwargs: Any) -> Any:
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
        raise _places()
    onto = None if x.number == 0 else x
    apart = _told_apart(_index_of(node), dim) if "index_" not in str(node.target) else ()
    held = [0, max(k for k, a in enumerate(node.args) if is_node(a))]
    function = bound(node, *held)
    alpha = float(kwargs.get("alpha", 1))
    if alpha != 1:
        source = d.scaled(source, alpha)
        function = function_of("index_add", lambda x, source, index: x.index_add(dim, index, source), node.args[2])
    return d.placed(onto, source, dim, shape, apart, _onto_zeros(function, onto is None, shape))


def _onto_zeros(function: Function, alone: bool, shape: Sequence[int]) -> Function:
    """What writes into its first operand, where that is left out: into zeros."""
    if not alone:
        return function
    settings = (function.settings, tuple(shape))
    return replace(
        function, apply=lambda source, *xs: function.apply(source.new_zeros(shape), source, *xs), settings=settings
    )


def _index_of(node: Any) -> Any:
    """The index of ``scatter`` and ``scatter_add``: their third argument."""
    return node.args[2] if len(node.args) > 2 else node.kwargs["index"]


def _told_apart(index: Any, dim: int) -> tuple[int, ...]:
    """Dimensions other than ``dim`` along which an index of full rank may differ: not those that it was expanded to."""
    shape = shape_of(index.meta["val"])
    wide = {k for k, n in enumerate(shape) if n > 1 and k != dim}
    while is_node(index) and operation_name(index) in ("aten.expand", "aten.repeat", "aten.expand_as", "aten.clone"):
        index = index.args[0]
        before = shape_of(index.meta["val"])
        front = len(shape) - len(before)
        wide = {k for k in wide if k >= front and before[k - front] > 1}
    return tuple(sorted(wide))


@rule("index_put", "_index_put_impl", "_unsafe_index_put")
def index_put(d: Any, node: Any, x: Any, indices: Any, source: Any, *rest_of: Any) -> Any:
    """The same with the indexed dimensions joined into one."""
    d.fix(*(index for index in indices if index is not None))
    shape = meta_shape(node)
    joined = _joined(node.args[1], indices, x.shape)
    onto = None if x.number == 0 else x
    if joined is None:
        raise _places()
    rest = [n for k, n in enumerate(shape) if k not in joined.dims]
    count = len(source.shape) - len(rest)
    full = (*rest[: joined.place], *source.shape[joined.place : joined.place + count], *rest[joined.place :])
    if count < 1 or tuple(source.shape) != full:
        if count > 0 or (is_value(source) and source.depends):
            raise _places()
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
        "index_put",
        lambda onto, source, *index: _written(onto, source, at, places.apply(*index), adds),
        *(n for n in node.args[1] if n is not None),
        settings=(adds, places.settings),
    )
    target = None if onto is None else joined.flattened(d, onto)
    put = d.placed(target, source, joined.place, even, (), _onto_zeros(written, onto is None, even))
    return joined.restored(d, put, shape)


def _written(onto: torch.Tensor, source: torch.Tensor, dim: int, places: torch.Tensor, adds: bool) -> torch.Tensor:
    """``onto`` with entries along ``dim`` replaced by, or increased by, those of the source."""
    places = places.reshape(-1)
    shape = (*source.shape[:dim], len(places), *source.shape[dim + 1 :])
    into = onto.index_add if adds else onto.index_copy
    return into(dim, places, source.expand(shape))


@rule(
    "one_hot",
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
    "bernoulli",
    "cauchy",
    "exponential",
    "geometric",
    "log_normal",
    "normal",
    "random",
    "uniform",
)
def fresh(d: Any, node: Any, *_: Any, **__: Any) -> Any:
    """Shapes only: the values of the input do not matter."""
    number = _filling(node)
    return d.constant(meta_shape(node), number, function=outcome(node) if number is None else None)


def _filling(node: Any) -> float | None:
    """The number that a new tensor is filled with."""
    name = operation_name(node).removeprefix("aten.").removeprefix("new_").removesuffix("_like")
    if name in ("zeros", "ones"):
        return float(name == "ones")
    given = node.args[-1:] if name == "full" else node.args[:1] if name == "scalar_tensor" else ()
    return float(given[0]) if given and isinstance(given[0], (int, float)) else None


@rule("im2col")
def windows(d: Any, node: Any, x: Any, kernel: Sequence[int], dilation: Any, padding: Sequence[int], *_: Any) -> Any:
    """Every window of positions as a column, channel by channel."""
    shape = meta_shape(node)
    for place, size in zip((-2, -1), padding, strict=True):
        x = d.zero_padded(x, len(x.shape) + place, size, size, 0.0) if size else x
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
def folded(d: Any, node: Any, x: Any, size: Any, kernel: Sequence[int], *_: Any) -> Any:
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
