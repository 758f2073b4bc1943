"""A tensor as the interpreter of channels sees it: the layout of each of its dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from neuralmechanics.symmetry.domains.channels.layout import Layout, Leaf, data, leaves, mapped, same
from neuralmechanics.symmetry.families.actions.terms.gain import Gain

__all__ = ["Axes", "all_leaves", "bare", "bound_dims", "broadcast", "changed", "data_axes", "same_axes", "without"]

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Axes:
    """A tensor: the layout of each dimension.

    ``gain``: the value is gain^power, one entry a channel. ``squares``: dimensions along which it is the square
    of what mixes, to be summed.
    """

    layouts: tuple[Layout, ...]
    gain: tuple[Gain, float] | None = None
    squares: frozenset[int] = frozenset()

    @property
    def shape(self) -> Shape:
        return tuple(layout.width for layout in self.layouts)

    @property
    def moves(self) -> bool:
        """Whether any dimension has channels."""
        return any(leaf.node is not None for layout in self.layouts for leaf in leaves(layout))


def data_axes(shape: Sequence[int]) -> Axes:
    """A tensor of data."""
    return Axes(tuple(data(n) for n in shape))


def same_axes(shape: Sequence[int]) -> Axes:
    """A tensor filled with one number."""
    return Axes(tuple(same(n) for n in shape))


def all_leaves(x: Axes) -> list[Leaf]:
    """The leaves of all dimensions."""
    return [leaf for layout in x.layouts for leaf in leaves(layout)]


def broadcast(x: Axes, shape: Shape) -> Axes:
    """The tensor repeated along dimensions of one entry, and along new ones in front."""
    front = len(shape) - len(x.layouts)
    old = x.shape
    layouts: list[Layout] = [same(n) for n in shape[:front]]
    layouts += [layout if n == m else same(m) for layout, n, m in zip(x.layouts, old, shape[front:], strict=True)]
    # Along a repeated dimension all entries are the same one, so that there are no channels to permute.
    return replace(x, layouts=tuple(layouts), squares=frozenset(d + front for d in x.squares))


def changed(x: Axes, change: Callable[[Leaf], Leaf]) -> Axes:
    """The tensor with each leaf replaced."""
    return replace(x, layouts=tuple(mapped(layout, change) for layout in x.layouts))


def bare(x: Axes) -> Axes:
    """The tensor without matrices and factors."""
    return Axes(changed(x, lambda leaf: replace(leaf, mixing=None, scale=(), sign=frozenset())).layouts)


def bound_dims(x: Axes, dims: Iterable[int]) -> frozenset[int]:
    """Dimensions counted from the front."""
    return frozenset(d % len(x.layouts) for d in dims) if x.layouts else frozenset()


def without(x: Axes, bound: frozenset[int], keepdim: bool) -> Axes:
    """The tensor after a reduction."""
    layouts = [same(1) if d in bound else layout for d, layout in enumerate(x.layouts)]
    return Axes(tuple(layout for d, layout in enumerate(layouts) if keepdim or d not in bound))
