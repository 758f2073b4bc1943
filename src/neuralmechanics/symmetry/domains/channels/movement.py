"""Channels through rearrangements: dimensions split, merged, cut, joined and padded."""

from __future__ import annotations

from dataclasses import replace

from neuralmechanics.symmetry.domains.channels.axes import (
    Axes,
    bound_dims,
    broadcast,
    data_axes,
)
from neuralmechanics.symmetry.domains.channels.layout import (
    Layout,
    MismatchError,
    Product,
    data,
    has_sum,
    leaves,
    product,
    same,
    summed,
    zeros,
)
from neuralmechanics.symmetry.domains.channels.meeting import Meeting
from neuralmechanics.symmetry.domains.channels.positions import taken
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take, dimension_groups

__all__ = ["concatenated", "gathered", "padded", "paired", "reshaped", "resized", "scattered", "spread", "view"]


def view(c: Meeting, primitive: p.Rearrange, x: Axes) -> Axes:
    view = primitive.view
    if isinstance(view, Permute):
        squares = frozenset(view.order.index(d) for d in x.squares)
        return replace(x, layouts=tuple(x.layouts[d] for d in view.order), squares=squares)
    if isinstance(view, Expand):
        return broadcast(x, view.shape)
    x = c.unmixed(x)
    if isinstance(view, Take):
        layouts = list(x.layouts)
        try:
            layouts[view.dim] = taken(c.nodes, layouts[view.dim], view.positions)
        except MismatchError:
            c.held(c.nodes.resolved(layouts[view.dim]))
            layouts[view.dim] = data(len(view.positions))
        return replace(x, layouts=tuple(layouts))  # a vector of gains knows the entries that are taken by its leaves
    return reshaped(c, view, x)


def reshaped(c: Meeting, view: Reshape, x: Axes) -> Axes:
    out: list[Layout] = [same(1)] * len(view.shape)
    kept = True
    for inside, outside in dimension_groups(x.shape, view.shape):
        whole = product([x.layouts[d] for d in inside])
        sizes = [view.shape[d] for d in outside]
        if not outside:
            continue
        # The parts of a sum have one leaf for what they have inside, which tells no longer of which part it is.
        kept = kept and (sum(n > 1 for n in sizes) <= 1 or not has_sum(c.nodes.resolved(whole)))
        try:
            found = c.nodes.factored(whole, sizes)
        except MismatchError:
            c.held(c.nodes.resolved(whole))
            found = [data(n) for n in sizes]
        for d, layout in zip(outside, found, strict=True):
            out[d] = layout
    return Axes(tuple(out), x.gain if kept else None)  # the leaves of a vector that is split know their entries


def concatenated(c: Meeting, primitive: p.Concatenate, *xs: Axes) -> Axes:
    dim = primitive.dim % len(xs[0].layouts)
    xs = tuple(c.unmixed(x) for x in xs if x.shape[dim])  # what has no entries meets nothing
    others = [replace(x, layouts=tuple(same(1) if d == dim else v for d, v in enumerate(x.layouts))) for x in xs]
    shape = others[0].shape
    beside = c.elementwise(shape, c.alike, *others)
    joined = summed([c.nodes.resolved(x.layouts[dim]) for x in xs])
    return Axes(tuple(joined if d == dim else layout for d, layout in enumerate(beside.layouts)))


def gathered(c: Meeting, primitive: p.Gather, x: Axes) -> Axes:
    x = c.unmixed(x)
    dim = primitive.dim % len(x.layouts)
    # Places are numbers in the data: permuted channels would be picked at the wrong ones.
    c.held(x.layouts[dim])
    picked = tuple(data(n) for n in primitive.index_shape)
    return Axes((*x.layouts[:dim], *picked, *x.layouts[dim + 1 :]))


def paired(c: Meeting, primitive: p.Pair, x: Axes) -> None:
    """Pairs of channels that something turns: matrices that commute with that, where every channel is in one.

    Of heads one behind the other, those that turn alike, each by itself.
    """
    layout = x.layouts[-1]
    whole = sorted(zip(primitive.first, primitive.second, strict=True))
    own = layout.parts[-1] if isinstance(layout, Product) else layout
    inside = tuple((i, j) for i, j in whole if max(i, j) < own.width)
    heads = range(0, layout.width, own.width)
    alike = sorted((h + i, h + j) for h in heads for i, j in inside) == whole and 2 * len(inside) == own.width
    for leaf in leaves(layout):
        if leaf is own and leaf.mixing is not None and alike and not x.squares:
            c.mixing.turn_pairs(leaf.mixing, inside)
        else:
            c.mixing.fix(leaf.mixing)


def padded(c: Meeting, primitive: p.Pad, x: Axes) -> Axes:
    x = c.unmixed(x)
    dim = primitive.dim % len(x.layouts)
    if primitive.before < 0 or primitive.after < 0:
        c.hold(x)
        return data_axes(primitive.output_shape(x.shape))
    parts = [zeros(primitive.before), x.layouts[dim], zeros(primitive.after)]
    return Axes(tuple(summed(parts) if d == dim else v for d, v in enumerate(x.layouts)))


def resized(c: Meeting, primitive: p.Resize, x: Axes) -> Axes:
    x = c.unmixed(x)
    if len(primitive.shape) != len(x.layouts):
        c.hold(x)
        return data_axes(primitive.shape)
    layouts = []
    for layout, n in zip(x.layouts, primitive.shape, strict=True):
        if layout.width != n:
            c.held(layout)
        layouts.append(layout if layout.width == n else data(n))
    return Axes(tuple(layouts))


def spread(c: Meeting, primitive: p.Spread, x: Axes) -> Axes:
    x = c.unmixed(x)
    bound = bound_dims(x, (primitive.dim, *primitive.apart))
    return Axes(tuple(c.held(v) if d in bound else v for d, v in enumerate(x.layouts)))


def scattered(c: Meeting, primitive: p.Scatter, *xs: Axes) -> Axes:
    """What is put into a tensor changes as the tensor does, but along dimensions in which places are chosen."""
    source = c.unmixed(xs[-1])
    dim = primitive.dim % len(source.layouts)
    bound = bound_dims(source, (dim, *primitive.apart))
    if [1 if d == dim else n for d, n in enumerate(primitive.shape)] != [
        1 if d == dim else n for d, n in enumerate(source.shape)
    ]:
        c.hold(*xs)
        return data_axes(primitive.shape)
    parts = [_apart(c, source, bound, dim)]
    if len(xs) == 2:
        parts.insert(0, _apart(c, c.unmixed(xs[0]), bound, dim))
    shape = parts[0].shape
    both = c.elementwise(shape, c.alike, *parts) if len(parts) == 2 else parts[0]
    return Axes(tuple(data(primitive.shape[dim]) if d == dim else layout for d, layout in enumerate(both.layouts)))


def _apart(c: Meeting, x: Axes, bound: frozenset[int], dim: int) -> Axes:
    """x with entries along some dimensions told apart, and one entry along ``dim``."""
    layouts = [c.held(layout) if d in bound else layout for d, layout in enumerate(x.layouts)]
    return Axes(tuple(same(1) if d == dim else layout for d, layout in enumerate(layouts)))
