"""Channels through operations along dimensions: sums, products, extrema, norms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from neuralmechanics.symmetry.domains.channels.axes import (
    Axes,
    all_leaves,
    bare,
    bound_dims,
    changed,
    data_axes,
    without,
)
from neuralmechanics.symmetry.domains.channels.layout import Layout, data, leaves, mapped, same
from neuralmechanics.symmetry.domains.channels.meeting import Meeting
from neuralmechanics.symmetry.program import primitives as p

__all__ = ["contracted", "deviation", "extremum", "normalised", "ordered", "pooled", "positions", "reduced", "softmax"]


def contracted(c: Meeting, primitive: p.Contract, x: Axes, y: Axes) -> Axes:
    how = primitive.how
    squares: set[str] = set()
    for z, own, others in ((x, how.x, how.y), (y, how.y, how.x)):
        # Squares along a dimension of one factor alone are summed to lengths here, or may be later.
        going = {d for d in z.squares if own[d] not in others}
        squares |= {own[d] for d in going}
        c.unmixed(replace(z, squares=z.squares - going))
    inner = {w.x for w in how.windows} | {w.kernel for w in how.windows}
    sizes = how.sizes(x.shape, y.shape)
    left, right = dict(zip(how.x, x.layouts, strict=True)), dict(zip(how.y, y.layouts, strict=True))
    out: dict[str, Layout] = {w.out: data(sizes[w.out]) for w in how.windows}
    for letter in dict.fromkeys(how.x + how.y):
        n = sizes[letter]
        both = [side[letter] for side in (left, right) if letter in side]
        wide = [layout if layout.width == n else same(n) for layout in both]
        # A window reads neighbours, and after a permutation they would be others.
        if letter in inner:
            for layout in wide:
                c.held(layout)
        elif letter in how.out:
            out[letter] = wide[0] if len(wide) == 1 else c.met(wide[0], wide[1], c.times)
        elif len(wide) == 2:
            c.met(wide[0], wide[1], c.against)
        else:
            c.added_up(wide[0], letter in squares)
    # Meeting may have split spaces, and what stands beside what is read off the parts.
    x, y = c.current(x), c.current(y)
    c.seen(x, y, letters=[how.x, how.y])
    return Axes(
        tuple(out[letter] for letter in how.out),
        squares=frozenset(k for k, letter in enumerate(how.out) if letter in squares),
    )


def reduced(c: Meeting, primitive: p.Reduce, x: Axes) -> Axes:
    bound = bound_dims(x, primitive.dims)
    # Another function of sizes is not linear, so nothing mixes, and sizes do not show signs.
    if primitive.function is not None:
        c.stiff(x)
        for layout in x.layouts:
            c.factors.no_sign(*leaves(layout))
    for d in bound:
        c.added_up(x.layouts[d], d in x.squares)
    # Squares along dimensions that stay may still be summed to lengths, together or one after the other.
    staying = (d if primitive.keepdim else d - sum(e < d for e in bound) for d in x.squares - bound)
    return replace(without(x, bound, primitive.keepdim), squares=frozenset(staying))


def extremum(c: Meeting, primitive: Any, x: Axes) -> Axes:
    bound = bound_dims(x, primitive.dims)
    c.stiff(x)
    c.factors.no_sign(*all_leaves(x))
    for d in bound:
        # Scaled apart, another entry would be the largest.
        c.factors.no_scale(*leaves(x.layouts[d]))
    return without(x, bound, primitive.keepdim)


def positions(c: Meeting, primitive: p.Positions, x: Axes) -> Axes:
    c.hold(x)
    return data_axes(primitive.output_shape(x.shape))


def ordered(c: Meeting, primitive: p.Order, x: Axes) -> Axes:
    """Entries by size; where they stood is told elsewhere."""
    c.stiff(x)
    c.factors.no_sign(*all_leaves(x))
    dim = primitive.dim % len(x.layouts)
    c.held(x.layouts[dim])
    return Axes(tuple(data(primitive.shape[d]) if d == dim else v for d, v in enumerate(x.layouts)))


def pooled(c: Meeting, primitive: p.Pool, x: Axes) -> Axes:
    x = c.unmixed(x)
    bound = bound_dims(x, primitive.dims)
    if not primitive.linear:
        c.stiff(x)
        c.factors.no_sign(*all_leaves(x))
    for d in bound:
        c.held(x.layouts[d])
    return Axes(tuple(data(primitive.shape[d]) if d in bound else v for d, v in enumerate(x.layouts)))


def normalised(c: Meeting, primitive: p.Normalise, x: Axes) -> Axes:
    x = c.unmixed(x)
    bound = bound_dims(x, primitive.dims)
    layouts = list(x.layouts)
    for d, layout in enumerate(x.layouts):
        for leaf in leaves(layout):
            # Entries along other dimensions are divided by different sizes, with which no matrix commutes.
            if d not in bound:
                c.mixing.fix(leaf.mixing)
                c.factors.breaks(leaf, primitive.broken_by)
                continue
            c.factors.no_scale(leaf)
            # A length does not see the signs of its entries, a mean does.
            if primitive.center:
                c.factors.no_sign(leaf)
            if leaf.mixing is not None:
                c.mixing.keep_length(leaf.mixing)
                if primitive.center:
                    c.mixing.keep_ones(leaf.mixing)
        if d not in bound:
            # A factor of the whole slice is divided out again; its sign is not.
            layouts[d] = mapped(layout, lambda leaf: replace(leaf, scale=()))
    c.seen(x, coupled=bound)
    return Axes(tuple(layouts))


def deviation(c: Meeting, primitive: p.Deviation, x: Axes) -> Axes:
    x = c.unmixed(x)
    bound = bound_dims(x, primitive.dims)
    for d, layout in enumerate(x.layouts):
        for leaf in leaves(layout):
            if d not in bound:
                c.mixing.fix(leaf.mixing)
                continue
            c.factors.none(leaf)
            if leaf.mixing is not None:
                c.mixing.keep_length(leaf.mixing)
                c.mixing.keep_ones(leaf.mixing)
    c.seen(x, coupled=bound)
    out = without(x, bound, primitive.keepdim)
    # x and -x deviate alike from their means.
    return changed(out, lambda leaf: replace(leaf, sign=frozenset()))


def softmax(c: Meeting, primitive: p.Softmax, x: Axes) -> Axes:
    c.stiff(x)
    c.factors.none(*all_leaves(x))
    # Which entries enter differs along ``chosen``, or along any dimension where that is not known.
    if primitive.function is not None:
        for d in range(len(x.layouts)) if primitive.chosen is None else primitive.chosen:
            c.held(x.layouts[d])
    c.seen(x, coupled=bound_dims(x, (primitive.dim,)))
    return bare(x)
