"""Rearrangements: labels move as the data do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.graph.known_entries import whole_numbers
from neuralmechanics.symmetry.lowering.rules.functions import bound, outcome
from neuralmechanics.symmetry.lowering.rules.registry import number_in, rule, settings
from neuralmechanics.symmetry.lowering.sizes import known, shape_of, size_of
from neuralmechanics.symmetry.lowering.sizes import meta_shape as meta_shape
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import NotSoughtError, UnsupportedFormError
from neuralmechanics.symmetry.program.value import Value, is_value


def moved(d: Builder, x: Value, source: int, target: int) -> Value:
    """The dimension ``source`` brought to place ``target``."""
    rank = len(x.shape)
    order = [k for k in range(rank) if k != source % rank]
    order.insert(target % rank, source % rank)
    return d.view(x, Permute(tuple(order)))


def take(d: Builder, x: Value, dim: int, positions: Sequence[int]) -> Value:
    return d.view(x, Take(dim % len(x.shape), tuple(positions)))


def reshape(d: Builder, x: Value, shape: Sequence[int]) -> Value:
    return x if tuple(shape) == tuple(x.shape) else d.view(x, Reshape(tuple(size_of(n) for n in shape)))


def expand(d: Builder, x: Value, shape: Sequence[int]) -> Value:
    """Broadcast; entries of -1 keep the size."""
    full = list(shape)
    front = len(full) - len(x.shape)
    full = [x.shape[k - front] if known(n) == -1 else size_of(n) for k, n in enumerate(full)]
    return d.view(x, Expand(tuple(full)))


@rule(
    "view",
    "reshape",
    "_unsafe_view",
    "flatten",
    "unflatten",
    "squeeze",
    "unsqueeze",
    "view_as",
    "reshape_as",
    "_reshape_alias",
)
def reshaped(d: Builder, node: fx.Node, x: Value, *_: object, **__: object) -> Value:
    """Row-major reshape."""
    if node.meta["val"].dtype != node.args[0].meta["val"].dtype:  # type: ignore[union-attr]
        raise UnsupportedFormError("the same bits as another type")
    return reshape(d, x, meta_shape(node))


@rule("atleast_1d", "atleast_2d", "atleast_3d")
def widened(d: Builder, node: fx.Node, x: Any) -> Any:
    """Dimensions of one entry added, for one tensor or for each of several."""
    value = node.meta["val"]
    if isinstance(value, (tuple, list)):
        return tuple(reshape(d, each, shape_of(v)) for each, v in zip(x, value, strict=True))
    return reshape(d, x, shape_of(value))


@rule(
    "clone",
    "contiguous",
    "alias",
    "to",
    "_to_copy",
    "type_as",
    "lift_fresh",
    "lift_fresh_copy",
    "lift",
    "positive",
    "_assert_tensor_metadata",
    "resolve_conj",
    "resolve_neg",
    "requires_grad_",
)
def unchanged(d: Builder, node: fx.Node, x: Value, *rest: Any, **__: object) -> Value:
    """The same values (up to rounding of a dtype change); whole numbers move with nothing."""
    value = node.meta.get("val")
    if value is None or value.is_floating_point() or value.is_complex() or (not x.depends and _holds_all(node, value)):
        return x
    raise NotSoughtError("no gradient passes whole numbers", hides=True)


def _holds_all(node: fx.Node, value: torch.Tensor) -> bool:
    """Whether whole numbers that count anything stay what they are: they were whole, and enough bits are left."""
    before = node.args[0].meta["val"].dtype  # type: ignore[union-attr]
    kinds = (torch.int32, torch.int64)
    return before == value.dtype or (before in kinds and value.dtype in kinds)


@rule("permute")
def permuted(d: Builder, node: fx.Node, x: Value, order: Sequence[int]) -> Value:
    return d.view(x, Permute(tuple(k % len(x.shape) for k in order)))


@rule("transpose", "swapaxes", "swapdims")
def transposed(d: Builder, node: fx.Node, x: Value, first: int, second: int) -> Value:
    order = list(range(len(x.shape)))
    if order:
        order[first], order[second] = order[second], order[first]
    return d.view(x, Permute(tuple(order)))


@rule("movedim", "moveaxis")
def moved_dims(d: Builder, node: fx.Node, x: Value, source: int | Sequence[int], target: int | Sequence[int]) -> Value:
    rank = len(x.shape)
    sources = [source] if isinstance(source, int) else list(source)
    targets = [target] if isinstance(target, int) else list(target)
    sources, targets = [s % rank for s in sources], [t % rank for t in targets]
    order = [k for k in range(rank) if k not in sources]
    for t, s in sorted(zip(targets, sources, strict=True)):
        order.insert(t, s)
    return d.view(x, Permute(tuple(order)))


@rule("expand", "broadcast_to", "expand_as")
def expanded(d: Builder, node: fx.Node, x: Value, *_: object, **__: object) -> Value:
    return d.view(x, Expand(meta_shape(node)))


@rule("flip")
def flipped(d: Builder, node: fx.Node, x: Value, dims: Sequence[int]) -> Value:
    for dim in dims:
        x = take(d, x, dim, range(x.shape[dim])[::-1])
    return x


@rule("roll")
def rolled(d: Builder, node: fx.Node, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    if not dims:
        shape = x.shape
        flat = reshape(d, x, (math.prod(shape),))
        return reshape(d, rolled(d, node, flat, shifts, [0]), shape)
    for shift, dim in zip(shifts, dims, strict=True):
        n = x.shape[dim]
        x = take(d, x, dim, [(k - shift) % n for k in range(n)])
    return x


@rule("repeat", "tile")
def repeated(d: Builder, node: fx.Node, x: Value, repeats: Sequence[int]) -> Value:
    front = max(0, len(repeats) - len(x.shape))
    x = reshape(d, x, (*((1,) * front), *x.shape))
    padded = [*((1,) * (len(x.shape) - len(repeats))), *repeats]
    for dim, count in enumerate(padded):
        if count != 1:
            x = take(d, x, dim, list(range(x.shape[dim])) * int(count))
    return x


@rule("repeat_interleave")
def interleaved(d: Builder, node: fx.Node, x: Value, repeats: Any, dim: int | None = None, **__: object) -> Value:
    if dim is None:
        x, dim = reshape(d, x, (math.prod(x.shape),)), 0
    counts = [repeats] if isinstance(repeats, int) else whole_numbers(node.args[1]) or []
    times = counts * x.shape[dim] if len(counts) == 1 else counts
    if sum(times) != meta_shape(node)[dim]:  # nor where the graph leaves open how many there are
        raise NotSoughtError("how often an entry is repeated is not followed", hides=True)
    return take(d, x, dim, [k for k, count in enumerate(times) for _ in range(count)])


@rule("pixel_shuffle")
def pixel_shuffled(d: Builder, node: fx.Node, x: Value, factor: int) -> Value:
    *batch, channels, height, width = x.shape
    inner = channels // factor**2
    b = len(batch)
    x = reshape(d, x, (*batch, inner, factor, factor, height, width))
    x = d.view(x, Permute((*range(b), b, b + 3, b + 1, b + 4, b + 2)))
    return reshape(d, x, (*batch, inner, height * factor, width * factor))


@rule(
    "upsample_nearest2d",
    "upsample_nearest1d",
    "upsample_nearest3d",
    "upsample_bilinear2d",
    "upsample_linear1d",
    "upsample_bicubic2d",
    "upsample_trilinear3d",
    "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d",
    "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
    "_upsample_lanczos2d_aa",
)
def upsampled(d: Builder, node: fx.Node, x: Value, *_: object, **__: object) -> Value:
    """Weighted means over neighbours, with weights that sum to one; of some kernels a few are negative."""
    dims, signed = tuple(range(2, len(x.shape))), any(kernel in str(node.target) for kernel in ("bicubic", "lanczos"))
    return d.pool(x, dims, meta_shape(node), True, True, settings(node), bound(node), signed)


@rule("copy")
def copied(d: Builder, node: fx.Node, x: Value, source: Value, *_: object) -> Value:
    """The source's values in the shape of x."""
    return expand(d, source, meta_shape(node))


@rule("fill")
def overwritten(d: Builder, node: fx.Node, x: Value, value: Any) -> Value:
    if is_value(value):
        d.fix(value)
    return d.constant(meta_shape(node), number_in(value), function=outcome(node) if number_in(value) is None else None)


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffled(d: Builder, node: fx.Node, x: Value, groups: int) -> Value:
    split = reshape(d, x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    swapped = d.view(split, Permute((0, 2, 1, *range(3, len(split.shape)))))
    return reshape(d, swapped, x.shape)


@rule("broadcast_tensors")
def broadcast(d: Builder, node: fx.Node, xs: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(expand(d, x, shape_of(v)) for x, v in zip(xs, node.meta["val"], strict=True))
