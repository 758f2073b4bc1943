"""Channels through operations on one entry at a time."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from neuralmechanics.symmetry.domains.channels.axes import (
    Axes,
    all_leaves,
    bare,
    broadcast,
    changed,
    data_axes,
)
from neuralmechanics.symmetry.domains.channels.factors import sum_of
from neuralmechanics.symmetry.domains.channels.layout import Leaf, leaves
from neuralmechanics.symmetry.domains.channels.meeting import Meeting
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import RESULT, Function

__all__ = [
    "added",
    "forgotten",
    "homogeneous",
    "larger",
    "masked",
    "multiplied",
    "noisy",
    "nonlinear",
    "number_added",
    "power",
    "reads_data",
    "scaled",
    "selected",
]


def added(c: Meeting, primitive: p.Add, x: Axes, y: Axes) -> Axes:
    shape = np.broadcast_shapes(x.shape, y.shape)
    # Of x + 0·y nothing ties the operands together.
    if primitive.scale == 0:
        return broadcast(x, shape)
    c.biases |= {v.gain[0].parameter for v in (x, y) if v.gain is not None}
    # Sums of squares along one dimension may still be summed to lengths, which are those of vectors that turn alike.
    both = x.squares & y.squares if x.shape == y.shape else frozenset[int]()
    for z in (x, y):
        c.unmixed(replace(z, squares=z.squares - both))
    return replace(c.elementwise(shape, c.alike, x, y), squares=both)


def number_added(c: Meeting, primitive: p.AddNumber, x: Axes) -> Axes:
    if primitive.number == 0:
        return x
    x = c.unmixed(x)
    for leaf in all_leaves(x):
        if primitive.broken_by is not None:
            # How far an eps breaks a factor is told by its size, along factors near one; no sign is near one.
            c.factors.breaks(leaf, primitive.broken_by)
            c.factors.no_sign(leaf)
        else:
            c.factors.none(leaf)
        if leaf.mixing is not None:
            # A(x + n·1) = Ax + n·1 where A keeps the all-ones vector.
            c.mixing.keep_ones(leaf.mixing)
    gain = None
    if x.gain is not None and x.gain[1] == 1:
        gain = (replace(x.gain[0], offset=x.gain[0].offset + primitive.number), 1.0)
    return replace(x, gain=gain)


def scaled(c: Meeting, primitive: p.Scale, x: Axes) -> Axes:
    gain = x.gain
    if gain is not None and gain[1] == 1:
        factor = primitive.factor
        gain = (replace(gain[0], factor=gain[0].factor * factor, offset=gain[0].offset * factor), 1.0)
    elif primitive.factor != 1:
        gain = None
    return replace(x, gain=gain)


def multiplied(c: Meeting, primitive: p.Multiply, x: Axes, y: Axes) -> Axes:
    shape = np.broadcast_shapes(x.shape, y.shape)
    x, y = c.unmixed(x), c.unmixed(y)
    if primitive.function is not None:  # linear in x for given data
        c.hold(y)
        y = data_axes(y.shape)
    # The gain second, on whichever side of the product it was written.
    if x.gain is not None and y.gain is None:
        x, y = y, x
    if (by := y.gain) is None:
        return c.elementwise(shape, c.times, x, y)
    c.gains.add(by[0].parameter)
    return c.elementwise(shape, lambda one, gain: c.through_gain(one, gain, by), x, y)


def power(c: Meeting, primitive: p.Power, x: Axes) -> Axes:
    exponent = primitive.exponent
    if exponent == 1 and primitive.function is None:
        return x
    gain = None if x.gain is None or primitive.function is not None else (x.gain[0], x.gain[1] * exponent)
    carried = frozenset(d for d, layout in enumerate(x.layouts) if any(leaf.mixing for leaf in leaves(layout)))
    squares = frozenset[int]()
    # Squares may still be summed to a length, which orthogonal matrices keep; other powers end all mixing.
    if exponent == 2 and primitive.function is None and not x.squares and gain is None:
        squares = carried
    else:
        c.stiff(x)
    factor = Fraction(exponent).limit_denominator(1 << 20)
    # The equations are exact: with a rounded exponent some that follow from others would count as new.
    exact, odd = float(factor) == exponent, primitive.function is None and float(exponent).is_integer() and exponent % 2
    even = primitive.function is None and float(exponent).is_integer() and not exponent % 2
    for leaf in all_leaves(x):
        if not exact:
            c.factors.no_scale(leaf)
        if not odd and not even:
            c.factors.no_sign(leaf)

    def raised(leaf: Leaf) -> Leaf:
        scale = sum_of((), leaf.scale, factor) if exact else ()
        return replace(leaf, scale=scale, sign=leaf.sign if odd else frozenset())

    return replace(changed(x, raised), gain=gain, squares=squares)


def homogeneous(c: Meeting, primitive: p.Homogeneous, x: Axes) -> Axes:
    """Positive factors pass; signs end, unless the function does not see them."""
    c.stiff(x)
    if not primitive.even:
        c.factors.no_sign(*all_leaves(x))
    # Such data (random slopes, for one) stand entry by entry and tell the channels apart.
    if reads_data(primitive.function):
        c.nodes.hold(*x.layouts)
    return replace(changed(x, lambda leaf: replace(leaf, sign=frozenset())), gain=None, squares=frozenset())


def nonlinear(c: Meeting, primitive: Any, *xs: Axes) -> Axes:
    """No factor passes; a sign where the function is odd, and where it is even without being seen."""
    c.stiff(*xs)
    odd, even = getattr(primitive, "odd", False), getattr(primitive, "even", False)
    for x in xs:
        c.factors.no_scale(*all_leaves(x))
        if not odd and not even:
            c.factors.no_sign(*all_leaves(x))
        if not isinstance(primitive, p.Forget) and reads_data(getattr(primitive, "function", None)):
            c.nodes.hold(*x.layouts)
    shape = np.broadcast_shapes(*(x.shape for x in xs))
    if len(xs) == 1 and odd:
        return Axes(changed(xs[0], lambda leaf: replace(leaf, mixing=None, scale=())).layouts)
    return c.elementwise(shape, c.alike, *(bare(x) for x in xs))


def forgotten(c: Meeting, primitive: p.Forget, *xs: Axes) -> Axes:
    """What is not followed, but for functions of single entries."""
    if primitive.elementwise and xs and np.broadcast_shapes(*(x.shape for x in xs)) == primitive.shape:
        return nonlinear(c, primitive, *xs)
    c.hold(*xs)
    return data_axes(primitive.shape)


def reads_data(function: Function | None) -> bool:
    """Whether a function reads tensors beside its operands, which may tell entries apart."""
    return function is not None and bool(function.data) and function.name != RESULT


def larger(c: Meeting, primitive: p.Maximum, x: Axes, y: Axes) -> Axes:
    c.stiff(x, y)
    c.factors.no_sign(*all_leaves(x), *all_leaves(y))
    return c.elementwise(np.broadcast_shapes(x.shape, y.shape), c.alike, x, y)


def noisy(c: Meeting, primitive: p.Noise, x: Axes) -> Axes:
    """A mask of its own for each entry: factors pass, and permutations as far as masks drawn anew are no others."""
    c.stiff(x)
    c.drawn.update(leaf.node for leaf in all_leaves(x) if leaf.node is not None)
    return replace(x, gain=None, squares=frozenset())


def selected(c: Meeting, primitive: p.Select, x: Axes, y: Axes) -> Axes:
    """A sum of two tensors, of which one is zero at each entry."""
    both = c.elementwise(primitive.shape, c.alike, c.unmixed(x), c.unmixed(y))
    return _under(c, primitive.mask, both, True)


def masked(c: Meeting, primitive: p.Mask, x: Axes) -> Axes:
    """Entries that become zero are multiplied by zero; any other number is multiplied by nothing."""
    return _under(c, primitive.mask, broadcast(c.unmixed(x), primitive.shape), primitive.number == 0)


def _under(c: Meeting, mask: int | None, x: Axes, linear: bool) -> Axes:
    """A tensor of which a mask picks entries."""
    if not linear:
        c.stiff(x)
        c.factors.none(*all_leaves(x))
    known = c.known.get(mask) if mask is not None else None
    if known is None:
        c.nodes.hold(*x.layouts)
        c.stiff(x)
        return replace(x, gain=None)
    return c.elementwise(x.shape, c.times, x, broadcast(bare(known), x.shape))
