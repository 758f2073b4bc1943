"""Spaces of channels while they are being found: what each is made of, what it is tied to, and what holds it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from neuralmechanics.symmetry.domains.channels.layout import (
    Layout,
    Leaf,
    MismatchError,
    Product,
    Sum,
    data,
    leaves,
    mapped,
    mapped_shape,
    product,
    refinement,
    same,
    summed,
)
from neuralmechanics.symmetry.program.attributes.views import dimension_groups

__all__ = ["Nodes"]

Combine = Callable[[Leaf, Leaf], Leaf]


@dataclass(eq=False)
class Nodes:
    """A union-find of spaces. A space may turn out to be a product or a sum of others (``split``).

    ``merge``: what becomes of channels of several parts that are seen as the same ones.

    ``rigid``: its channels are told apart. ``within``: the spaces on whose index its permutation may depend, so that
    there is one for each of their entries; None while no tensor has been seen. ``split_any``: something has been split,
    so that labels given before are out of date.
    """

    widths: list[int] = field(default_factory=list)
    rigid: set[int] = field(default_factory=set)
    within: dict[int, set[int] | None] = field(default_factory=dict)
    split_any: bool = False
    merge: Combine = field(init=False)
    _above: list[int] = field(default_factory=list)
    _made_of: dict[int, Layout] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.merge = self._tied

    def new(self, width: int) -> Leaf:
        """A space of its own."""
        node = len(self.widths)
        self.widths.append(width)
        self._above.append(node)
        self.within[node] = None
        return Leaf(width, node)

    def find(self, node: int) -> int:
        """The first of the spaces that are the same."""
        while self._above[node] != node:
            # Each who asks halves the way for the next.
            self._above[node] = self._above[self._above[node]]
            node = self._above[node]
        return node

    # --- what spaces are made of --------------------------------------------------------------------------------

    def resolved(self, layout: Layout) -> Layout:
        """The layout in terms of spaces that are not made of others."""
        if not self._made_of:  # so it is in every interpretation but the first ones
            return layout
        if all(leaf.node is None or self.find(leaf.node) not in self._made_of for leaf in leaves(layout)):
            return layout
        return mapped(layout, self._resolved)

    def _resolved(self, leaf: Leaf) -> Layout:
        made = None if leaf.node is None else self._made_of.get(self.find(leaf.node))
        return leaf if made is None else self.resolved(made)

    def split(self, leaf: Leaf, widths: Sequence[int], joined: Callable[[Sequence[Layout]], Layout]) -> Layout:
        """The leaf as a product or a sum of parts of these widths."""
        if leaf.node is None:
            return joined([Leaf(width, told=leaf.told, zero=leaf.zero) for width in widths])
        node = self.find(leaf.node)
        made = joined([self.new(width) if width > 1 else same(1) for width in widths])
        if node in self.rigid:
            self.rigid.update(part.node for part in leaves(made) if part.node is not None)
        self._made_of[node] = made
        self.split_any = True
        return made

    # --- ties ---------------------------------------------------------------------------------------------------

    def unite(self, first: int, second: int) -> None:
        """Both spaces are permuted alike."""
        one, other = self.resolved(Leaf(self.widths[first], first)), self.resolved(Leaf(self.widths[second], second))
        if not isinstance(one, Leaf) or not isinstance(other, Leaf):
            self.zipped(one, other, self._tied)
            return
        if one.node is None or other.node is None:
            self.hold(one, other)
            return
        # The older space leads: the result is the same whichever operand came first.
        a, b = sorted((self.find(one.node), self.find(other.node)))
        if a == b:
            return
        self._above[b] = a
        if b in self.rigid:
            self.rigid.add(a)
        mine, theirs = self.within[a], self.within[b]
        self.within[a] = mine if theirs is None else theirs if mine is None else self._common(mine, theirs)

    def _common(self, first: Iterable[int], second: Iterable[int]) -> set[int]:
        return {self.find(n) for n in first} & {self.find(n) for n in second}

    def _tied(self, one: Leaf, other: Leaf) -> Leaf:
        self.tie(one, other)
        return one if one.node is not None else other

    def tie(self, one: Leaf, other: Leaf) -> None:
        """Entries that meet one by one are permuted alike; what meets data is not permuted."""
        if one.node is not None and other.node is not None:
            self.unite(one.node, other.node)
        elif one.told or other.told:
            self.hold(one, other)

    def hold(self, *layouts: Layout) -> None:
        """The channels are told apart."""
        for layout in layouts:
            for leaf in leaves(self.resolved(layout)):
                if leaf.node is not None:
                    self.rigid.add(self.find(leaf.node))

    def is_rigid(self, node: int) -> bool:
        return self.find(node) in self.rigid

    def depends_at_most(self, node: int, others: Iterable[int]) -> None:
        """What permutes the space may depend on the indices of these spaces only."""
        node = self.find(node)
        known, given = self.within[node], {self.find(n) for n in others} - {node}
        self.within[node] = given if known is None else self._common(known, given)

    # --- meeting --------------------------------------------------------------------------------------------------

    def zipped(self, first: Layout, second: Layout, combine: Combine) -> Layout:
        """The common refinement of two layouts of equal width, its leaves made by ``combine``.

        Raises ``MismatchError`` where there is none.
        """
        first, second = self.resolved(first), self.resolved(second)
        if isinstance(first, Leaf) and isinstance(second, Leaf):
            return combine(first, second)
        if isinstance(first, Sum):
            return self._zipped_sum(first, second, combine)
        if isinstance(second, Sum):
            # ``combine`` tells its operands apart, as a product with a gain does.
            return self._zipped_sum(second, first, lambda a, b: combine(b, a))
        # A leaf takes the finer structure of what it meets, from here on and wherever else it stands.
        if isinstance(first, Leaf):
            return self.zipped(self._like(first, second), second, combine)
        if isinstance(second, Leaf):
            return self.zipped(first, self._like(second, first), combine)
        return self._zipped_product(first, second, combine)

    def _like(self, leaf: Leaf, other: Layout) -> Layout:
        """The leaf split as the other is, one level deep."""
        parts = other.parts if isinstance(other, (Product, Sum)) else (other,)
        build = Product if isinstance(other, Product) else Sum
        return self.split(leaf, [part.width for part in parts], lambda made: build(tuple(made)))

    def _zipped_sum(self, first: Sum, second: Layout, combine: Combine) -> Layout:
        out: list[Layout] = []
        rest = second
        for number, part in enumerate(first.parts):
            head = rest
            if number + 1 < len(first.parts):
                head, rest = self.cut(rest, part.width)
            out.append(self.zipped(part, head, combine))
        return summed(out)

    def _zipped_product(self, first: Product, second: Product, combine: Combine) -> Layout:
        out: list[Layout] = []
        mine, theirs = ([part.width for part in x.parts] for x in (first, second))
        for inside, outside in dimension_groups(mine, theirs):
            one, other = (product([x.parts[k] for k in places]) for x, places in ((first, inside), (second, outside)))
            if len(inside) > 1 and len(outside) > 1:
                sizes = refinement([mine[k] for k in inside], [theirs[k] for k in outside])
                pieces = zip(self.factored(one, sizes), self.factored(other, sizes), strict=True)
                out += [self.zipped(x, y, combine) for x, y in pieces]
            else:
                out.append(self.zipped(one, other, combine))
        return product(out)

    def cut(self, layout: Layout, at: int) -> tuple[Layout, Layout]:
        """The first ``at`` entries, and the others."""
        layout = self.resolved(layout)
        if at in (0, layout.width):
            return (same(0), layout) if at == 0 else (layout, same(0))
        if isinstance(layout, Leaf):
            layout = self.split(layout, [at, layout.width - at], lambda parts: Sum(tuple(parts)))
        if isinstance(layout, Sum):
            before: list[Layout] = []
            for k, part in enumerate(layout.parts):
                room = at - sum(p.width for p in before)
                if part.width > room:
                    head, tail = self.cut(part, room)
                    return summed([*before, head]), summed([tail, *layout.parts[k + 1 :]])
                before.append(part)
        if isinstance(layout, Product):
            inner = product(layout.parts[1:])
            # Only between whole rows: elsewhere the first part would be cut at one place and the rest at another.
            if at % inner.width == 0:
                head, tail = self.cut(layout.parts[0], at // inner.width)
                return product([head, inner]), product([tail, inner])
        raise MismatchError(f"a cut at {at} of {layout.width} entries")

    # --- reshapes -------------------------------------------------------------------------------------------------

    def factored(self, layout: Layout, sizes: Sequence[int]) -> list[Layout]:
        """The layout as dimensions of these sizes, whose product is its width."""
        layout = self.resolved(layout)
        wide = [n for n in sizes if n != 1]
        found = iter(self._factored(layout, wide) if len(wide) > 1 else [layout] * len(wide))
        return [same(1) if n == 1 else next(found) for n in sizes]

    def _factored(self, layout: Layout, sizes: Sequence[int]) -> list[Layout]:
        if isinstance(layout, Leaf):
            made = self.split(layout, sizes, lambda parts: Product(tuple(parts)))
            return list(made.parts) if isinstance(made, Product) else [data(n) for n in sizes]
        if isinstance(layout, Sum):
            return self._factored_sum(layout, sizes)
        out: list[Layout] = []
        for inside, outside in dimension_groups([part.width for part in layout.parts], sizes):
            part = product([layout.parts[k] for k in inside])
            if len(outside) == 1:
                out.append(part)
            elif len(inside) == 1:
                out += self.factored(part, [sizes[k] for k in outside])
            else:
                out += self._refactored([layout.parts[k] for k in inside], [sizes[k] for k in outside])
        return out

    def _refactored(self, parts: Sequence[Layout], sizes: Sequence[int]) -> list[Layout]:
        """Parts as dimensions of other sizes, by way of dimensions into which both divide."""
        fine = refinement([part.width for part in parts], sizes)
        groups = dimension_groups([part.width for part in parts], fine)
        pieces = [x for (k,), places in groups for x in self.factored(parts[k], [fine[j] for j in places])]
        return [product([pieces[j] for j in places]) for places, _ in dimension_groups(fine, sizes)]

    def _factored_sum(self, layout: Sum, sizes: Sequence[int]) -> list[Layout]:
        """(A + B) × C as dimensions A + B and C: what the parts have inside is the same space."""
        inner = math.prod(sizes[1:])
        if any(part.width % inner for part in layout.parts):
            raise MismatchError(f"a sum of {[part.width for part in layout.parts]} entries as {list(sizes)}")
        parts = [self.factored(part, [part.width // inner, *sizes[1:]]) for part in layout.parts]
        common = parts[0][1:]
        for part in parts[1:]:
            common = [self.zipped(one, other, self.merge) for one, other in zip(common, part[1:], strict=True)]
        # A part of one entry stands beside the others and is told from them.
        return [summed([part[0] if part[0].width > 1 else Leaf(1, told=True) for part in parts]), *common]

    def skeleton(self, layout: Layout) -> Layout:
        """The shape of the resolved layout, without nodes."""
        return mapped_shape(self.resolved(layout))

    def fresh(self, skeleton: Layout) -> Layout:
        """New spaces in the shape of a skeleton."""
        if isinstance(skeleton, Leaf):
            if skeleton.told:
                return skeleton
            return self.new(skeleton.width) if skeleton.width > 1 else same(skeleton.width)
        parts = tuple(self.fresh(part) for part in skeleton.parts)
        return Product(parts) if isinstance(skeleton, Product) else Sum(parts)
