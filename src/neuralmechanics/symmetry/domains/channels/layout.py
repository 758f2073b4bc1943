"""The layout of a dimension: which channels its entries are, as products and sums of spaces.

A dimension of H·D entries that holds D channels of each of H heads, one head behind the other, is the product H × D; a
concatenation of two dimensions is their sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from neuralmechanics.symmetry.domains.representation.spaces import Leg

__all__ = [
    "Layout", "Leaf", "MismatchError", "Product", "Sum", "data", "has_sum", "leaves", "mapped", "mapped_shape",
    "product", "refinement", "same", "summed", "zeros",
]  # fmt: skip

Exponents = tuple[tuple[int, Fraction], ...]


@dataclass(frozen=True)
class Leaf:
    """``width`` entries: the channels of space ``node``, or (None) entries that nothing moves.

    ``told``: entries of data, each of which stands where it stands; else, without a node, all entries are the same,
    and ``zero``: all are zero, whatever the other dimensions are.
    ``mixing``: with which matrix the channels mix. Channel c is multiplied by Π a_v[c]^p over the pairs (v, p) of
    ``scale``, and by the product of the signs s_v[c] over the variables v of ``sign``.
    """

    width: int
    node: int | None = None
    told: bool = False
    mixing: Leg | None = None
    scale: Exponents = ()
    sign: frozenset[int] = frozenset()
    zero: bool = False


@dataclass(frozen=True)
class Product:
    """Row-major indices, the outermost part first."""

    parts: tuple[Layout, ...]

    @property
    def width(self) -> int:
        return math.prod(part.width for part in self.parts)


@dataclass(frozen=True)
class Sum:
    """Parts one behind the other."""

    parts: tuple[Layout, ...]

    @property
    def width(self) -> int:
        return sum(part.width for part in self.parts)


Layout = Leaf | Product | Sum


class MismatchError(ValueError):
    """Two layouts that have no common refinement of products and sums."""


def data(width: int) -> Leaf:
    """A dimension of data."""
    return Leaf(width, told=width > 1)


def same(width: int) -> Leaf:
    """A dimension along which all entries are the same."""
    return Leaf(width)


def zeros(width: int) -> Leaf:
    """A dimension along which all entries are zero."""
    return Leaf(width, zero=True)


def product(parts: Sequence[Layout]) -> Layout:
    """The product without parts of one entry, a sum in front written out: (A + B) × C = A × C + B × C."""
    flat: list[Layout] = []
    for part in parts:
        flat += part.parts if isinstance(part, Product) else [part]
    # Parts of one entry would make layouts differ that hold the same channels in the same order.
    wide = [part for part in flat if part.width != 1]
    if not wide:
        return same(1)
    if len(wide) == 1:
        return wide[0]
    first = wide[0]
    # Only in front: behind another part the pieces of a sum lie apart, once for each index of that part.
    if isinstance(first, Sum):
        return summed([product([part, *wide[1:]]) for part in first.parts])
    if all(isinstance(part, Leaf) and part.node is None for part in wide):
        whole = math.prod(part.width for part in wide)
        if all(isinstance(part, Leaf) and not part.told for part in wide):
            return same(whole)
        if all(isinstance(part, Leaf) and part.told for part in wide):
            return data(whole)
    return Product(tuple(wide))


def summed(parts: Sequence[Layout]) -> Layout:
    """The sum without sums within; of data alone, data."""
    flat: list[Layout] = []
    for part in parts:
        flat += part.parts if isinstance(part, Sum) else [part]
    flat = [part for part in flat if part.width]
    if not flat:
        return same(0)
    if len(flat) == 1:
        return flat[0]
    if all(isinstance(part, Leaf) and part.node is None and part.told for part in flat):
        return data(sum(part.width for part in flat))
    return Sum(tuple(flat))


def leaves(layout: Layout) -> Iterator[Leaf]:
    """All leaves, in order."""
    if isinstance(layout, Leaf):
        yield layout
    else:
        for part in layout.parts:
            yield from leaves(part)


def has_sum(layout: Layout) -> bool:
    """Whether any part is a sum."""
    return isinstance(layout, Sum) or (isinstance(layout, Product) and any(map(has_sum, layout.parts)))


def mapped(layout: Layout, change: Callable[[Leaf], Layout]) -> Layout:
    """The layout with each leaf replaced."""
    if isinstance(layout, Leaf):
        return change(layout)
    build = product if isinstance(layout, Product) else summed
    return build([mapped(part, change) for part in layout.parts])


def plain(leaf: Leaf) -> Leaf:
    """The leaf without factors."""
    return replace(leaf, scale=(), sign=frozenset()) if leaf.scale or leaf.sign else leaf


def refinement(widths: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """The coarsest dimensions into which both divide.

    >>> refinement([2, 8], [4, 4])
    [2, 2, 4]
    """
    ends = sorted({math.prod(x[k:]) for x in (widths, sizes) for k in range(len(x) + 1)})
    # 6 as 2·3 and 6 as 3·2: there are no finer dimensions of which both are made.
    if any(b % a for a, b in pairwise(ends)):
        raise MismatchError(f"{list(widths)} entries as {list(sizes)}")
    return [b // a for a, b in pairwise(ends)][::-1]


def mapped_shape(layout: Layout) -> Layout:
    """The layout with widths alone."""
    if isinstance(layout, Leaf):
        return Leaf(layout.width, told=layout.told and layout.node is None)
    parts = tuple(mapped_shape(part) for part in layout.parts)
    return Product(parts) if isinstance(layout, Product) else Sum(parts)
