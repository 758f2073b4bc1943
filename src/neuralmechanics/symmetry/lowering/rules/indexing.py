"""Entries picked or placed by indices."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from neuralmechanics.symmetry.lowering.capture.captured import is_node, operation_name
from neuralmechanics.symmetry.lowering.rules.movement import expand, reshape, take
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.lowering.sizes import known, meta_shape, shape_of
from neuralmechanics.symmetry.program.refusals import NotSoughtError, UnsupportedFormError
from neuralmechanics.symmetry.program.value import is_value
from neuralmechanics.symmetry.program.views import Permute


@rule("embedding")
def embedding(d: Any, node: Any, weight: Any, index: Any, *_: Any, **__: Any) -> Any:
    """Row index[…] of the table."""
    d.fix(index)
    return d.gather(weight, 0, tuple(index.shape), node.args[1])


@rule("index_select")
def index_select(d: Any, node: Any, x: Any, dim: int, index: Any) -> Any:
    d.fix(index)
    return d.gather(x, dim % len(x.shape), tuple(index.shape), node.args[2])


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
    return d.gather(joined.flattened(d, x), joined.place, picked, joined.index)


@dataclass(frozen=True)
class _Joined:
    """The dimensions that index tensors pick from; where the picked ones stand; what decides the positions."""

    dims: tuple[int, ...]
    place: int
    index: Hashable

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
    used = tuple(node for node in nodes if node is not None)
    single = len(dims) == 1 and len(used) == 1 and used[0].meta["val"].dtype is not torch.bool
    sizes = tuple(shape[k] for k in dims)
    return _Joined(tuple(dims), dims[0] if adjacent else 0, used[0] if single else (used, sizes))


_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8)


def _places() -> NotSoughtError:
    return NotSoughtError("which entries are read or written is not followed in this form", hides=True)


@rule("masked_select")
def masked_select(d: Any, node: Any, x: Any, mask: Any) -> Any:
    """Entries of the flattened tensor where a mask holds."""
    d.fix(mask)
    if mask.shape != x.shape:
        raise _places()
    return d.gather(reshape(d, x, (math.prod(x.shape),)), 0, meta_shape(node), (node.args[1], x.shape))


@rule(
    "nonzero",
    "nonzero_static",
    "nonzero_numpy",
    "argwhere",
    "unique",
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
    return value if isinstance(value, (int, torch.SymInt)) else d.constant(())


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
    return value if isinstance(value, (int, torch.SymInt, torch.SymBool)) else d.constant(())


@rule("_assert_scalar", "_assert_async", "sym_constrain_range", "sym_constrain_range_for_size", "_check")
def asserted(d: Any, node: Any, *xs: Any, **__: Any) -> Any:
    """A statement about numbers, which may not move."""
    d.fix(*(x for x in xs if is_value(x)))


@rule("gather", "take_along_dim")
def gathered(d: Any, node: Any, x: Any, dim: int, index: Any, **__: Any) -> Any:
    """Along ``dim``, every position of the output picks its own entry."""
    shape = meta_shape(node)
    d.fix(index)
    if any(n > x.shape[k] for k, n in enumerate(shape) if k != dim % len(x.shape)):  # broadcast by the index
        raise _places()
    even = d.spread_along(x, dim % len(x.shape), _told_apart(node.args[2], dim % len(x.shape)))
    return d.resized(even, shape)


@rule("slice_scatter")
def slice_replaced(
    d: Any, node: Any, x: Any, source: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    """x with a slice replaced: what stands before it, the source, what stands after it."""
    dim %= len(x.shape)
    if step != 1 or any(bound is not None and known(bound) is None for bound in (start, end)):
        raise UnsupportedFormError("a slice with gaps, or one that the data decide")
    places = range(x.shape[dim])
    inside = places[start:end]
    if x.number == 0:  # zeros bear any label
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
    return d.placed(onto, source, dim, shape, apart)


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
def index_put(d: Any, node: Any, x: Any, indices: Any, source: Any, *_: Any) -> Any:
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
    put = d.placed(None if onto is None else joined.flattened(d, onto), source, joined.place, even)
    return joined.restored(d, put, shape)


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
    return d.constant(meta_shape(node), _filling(node))


def _filling(node: Any) -> float | None:
    """The number that a new tensor is filled with."""
    name = operation_name(node).removeprefix("aten.").removeprefix("new_").removesuffix("_like")
    if name in ("zeros", "ones"):
        return float(name == "ones")
    given = node.args[-1:] if name == "full" else node.args[:1] if name == "scalar_tensor" else ()
    return float(given[0]) if given and isinstance(given[0], (int, float)) else None


@rule("diagonal")
def diagonal(d: Any, node: Any, x: Any, *_: Any, **__: Any) -> Any:
    raise _places()


@rule("im2col")
def windows(d: Any, node: Any, x: Any, kernel: Sequence[int], dilation: Any, padding: Sequence[int], *_: Any) -> Any:
    """Every window of positions as a column, channel by channel."""
    shape = meta_shape(node)
    for place, size in zip((-2, -1), padding, strict=True):
        x = d.zero_padded(x, len(x.shape) + place, size, size, 0.0) if size else x
    *front, height, width = x.shape
    flat = reshape(d, x, (*front, height * width))
    picked = d.gather(flat, len(front), (math.prod(kernel), shape[-1]), node)
    return reshape(d, picked, shape)


@rule("col2im")
def folded(d: Any, node: Any, x: Any, size: Any, kernel: Sequence[int], *_: Any) -> Any:
    """Columns added into the windows that they came from; what falls into the padding is dropped."""
    shape = meta_shape(node)
    flat = reshape(d, x, (*shape[:-2], math.prod(kernel) * x.shape[-1]))
    put = d.placed(None, flat, len(shape) - 2, (*shape[:-2], math.prod(shape[-2:])))
    return reshape(d, put, shape)
