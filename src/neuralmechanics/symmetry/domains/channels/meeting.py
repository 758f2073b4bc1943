"""Dimensions that meet: whose channels are permuted alike, with which matrices and factors, depending on what."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from neuralmechanics.symmetry.domains.channels.axes import Axes, all_leaves, broadcast
from neuralmechanics.symmetry.domains.channels.factors import Factors, sum_of
from neuralmechanics.symmetry.domains.channels.layout import Layout, Leaf, MismatchError, Sum, data, leaves
from neuralmechanics.symmetry.domains.channels.nodes import Nodes
from neuralmechanics.symmetry.domains.representation.spaces import Spaces
from neuralmechanics.symmetry.families.actions.terms.gain import Gain

__all__ = ["Meeting", "Run"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Path:
    """A space in a dimension: by which others it is multiplied there; ``whole``: all entries are some channel of it."""

    node: int
    beside: frozenset[int] = frozenset()
    whole: bool = True


@dataclass(frozen=True)
class Run:
    """Entries of a vector, one a channel; ``beside``: how many for each channel of other spaces, and how far apart."""

    parameter: str
    start: int
    stride: int
    beside: tuple[tuple[int, int, int], ...] = ()


@dataclass(eq=False)
class Meeting:
    """What is known of all spaces of channels, and what follows where dimensions meet.

    ``nodes``: which channels are permuted alike; ``mixing``: with which matrices they may mix; ``factors``: how they
    may be multiplied; ``gains``: the vectors that multiply channels, ``biases``: those added; ``known``: values
    that are data, by their indices; ``drawn``: spaces whose channels random masks multiply; ``runs``: where in its
    vector each leaf of a parameter stands, by its variable.
    """

    shapes: Mapping[str, Shape]
    nodes: Nodes = field(default_factory=Nodes)
    mixing: Spaces = field(default_factory=Spaces)
    factors: Factors = field(default_factory=Factors)
    gains: set[str] = field(default_factory=set)
    biases: set[str] = field(default_factory=set)
    known: dict[int, Axes] = field(default_factory=dict)
    drawn: set[int] = field(default_factory=set)
    runs: dict[int, Run] = field(default_factory=dict)
    _said: set[object] = field(default_factory=set)  # which spaces stood beside each other in what has been seen

    def __post_init__(self) -> None:
        self.nodes.merge = self.alike

    def current(self, x: Axes) -> Axes:
        """The tensor in terms of spaces that are not made of others."""
        # A space may have been split since the tensor was made, by what came after it.
        layouts = tuple(self.nodes.resolved(layout) for layout in x.layouts)
        return x if all(a is b for a, b in zip(layouts, x.layouts, strict=True)) else replace(x, layouts=layouts)

    # --- demands --------------------------------------------------------------------------------------------------

    def hold(self, *xs: Axes) -> None:
        """Nothing may change."""
        for x in xs:
            for layout in x.layouts:
                self.held(layout)

    def held(self, layout: Layout) -> Layout:
        """Data in the place of channels that are told apart."""
        self.nodes.hold(layout)
        for leaf in leaves(layout):
            self.mixing.fix(leaf.mixing)
            self.factors.none(leaf)
        return data(layout.width)

    def stiff(self, *xs: Axes) -> None:
        """No channels mix."""
        for x in xs:
            for leaf in all_leaves(x):
                self.mixing.fix(leaf.mixing)

    def unmixed(self, x: Axes) -> Axes:
        """x where only linear operations may follow: a square that is not summed does not mix."""
        if not x.squares:
            return x
        for d in x.squares:
            for leaf in leaves(x.layouts[d]):
                self.mixing.fix(leaf.mixing)
        return replace(x, squares=frozenset())

    def met(self, first: Layout, second: Layout, combine: Callable[[Leaf, Leaf], Leaf]) -> Layout:
        """Two dimensions entry by entry; told apart where their layouts do not fit."""
        try:
            return self.nodes.zipped(first, second, combine)
        except MismatchError:
            # Channels that meet in an unknown order are told apart, which is always right.
            for layout in (first, second):
                self.held(self.nodes.resolved(layout))
            return data(first.width)

    # --- on which indices a permutation may depend ------------------------------------------------------------------

    def seen(self, *xs: Axes, letters: Sequence[Sequence[object]] = (), coupled: Iterable[object] = ()) -> None:
        """Restricts each space to the indices of spaces that stand beside it, along the same dimension in all ``xs``.

        ``letters``: what the dimensions are called, where several tensors meet. ``coupled``: dimensions whose entries
        are mixed with each other.
        """
        mixed = frozenset(coupled)
        said = tuple(tuple(map(self._spaces, x.layouts)) for x in xs), tuple(map(tuple, letters)), mixed
        if said in self._said:  # it restricts nothing that it has not restricted before
            return
        self._said.add(said)
        named = [tuple(letters[k]) if letters else tuple(range(len(x.layouts))) for k, x in enumerate(xs)]
        places: dict[int, list[object]] = {}
        found: list[list[tuple[object, _Path]]] = []
        for x, own in zip(xs, named, strict=True):
            inside = [
                (letter, path) for layout, letter in zip(x.layouts, own, strict=True) for path in self._paths(layout)
            ]
            found.append(inside)
            for letter, path in inside:
                places.setdefault(path.node, []).append(letter)
        for inside in found:
            uses = Counter(path.node for _, path in inside)
            # A space that stands at two places of a tensor has no one index there that another could depend on.
            once = [(path.node, letter) for letter, path in inside if path.whole and uses[path.node] == 1]
            for letter, path in inside:
                allowed = {
                    other
                    for other, at in once
                    if at != letter and set(places[other]) == {at} and (at not in mixed or letter in mixed)
                }
                self.nodes.depends_at_most(path.node, allowed | path.beside)

    def _spaces(self, layout: Layout) -> object:
        """The spaces of a dimension as they are put together, all that ``_paths`` reads."""
        layout = self.nodes.resolved(layout)
        if isinstance(layout, Leaf):
            return None if layout.node is None else self.nodes.find(layout.node)
        return (isinstance(layout, Sum), *map(self._spaces, layout.parts))

    def _paths(self, layout: Layout) -> list[_Path]:
        """Each space of a dimension, and those by which it is multiplied there."""
        layout = self.nodes.resolved(layout)
        if isinstance(layout, Leaf):
            return [] if layout.node is None else [_Path(self.nodes.find(layout.node))]
        parts = [self._paths(part) for part in layout.parts]
        if isinstance(layout, Sum):
            return [replace(path, whole=False) for part in parts for path in part]
        direct = [self.nodes.find(x.node) if isinstance(x, Leaf) and x.node is not None else None for x in layout.parts]
        out = []
        for k, part in enumerate(parts):
            beside = frozenset(n for j, n in enumerate(direct) if j != k and n is not None and direct.count(n) == 1)
            out += [replace(path, beside=(path.beside | beside) - {path.node}) for path in part]
        return out

    # --- dimensions that meet ---------------------------------------------------------------------------------------

    def elementwise(self, shape: Shape, combine: Callable[[Leaf, Leaf], Leaf], *xs: Axes) -> Axes:
        """Tensors that meet entry by entry, after broadcasting."""
        wide = [broadcast(x, shape) for x in xs]
        out = wide[0].layouts
        for x in wide[1:]:
            out = tuple(self.met(one, other, combine) for one, other in zip(out, x.layouts, strict=True))
        self.seen(*(self.current(x) for x in wide), letters=[range(len(shape))] * len(wide))
        return Axes(out)

    def alike(self, one: Leaf, other: Leaf) -> Leaf:
        """A sum: both are permuted, mixed and multiplied alike; what is the same for all channels is none of it.

        Zeros go along with anything.
        """
        if one.zero or other.zero:
            return other if one.zero else one
        self.nodes.tie(one, other)
        if one.node is None or other.node is None:
            single = one if one.node is not None else other
            told = one.told or other.told
            self.factors.none(single)
            # The other summand is the same for all channels, a multiple of the all-ones vector.
            if single.node is not None and not told and single.mixing is not None:
                self.mixing.keep_ones(single.mixing)
            else:
                self.mixing.fix(single.mixing)
            return replace(single, told=told) if single.node is None else single
        self.mixing.unite(one.mixing, other.mixing)
        self.factors.equal(one, other)
        return one

    def times(self, one: Leaf, other: Leaf) -> Leaf:
        """A product, entry by entry: factors multiply, nothing mixes but what meets the same number everywhere."""
        self.nodes.tie(one, other)
        if one.node is None or other.node is None:
            single, partner = (one, other) if one.node is not None else (other, one)
            # One number for all channels commutes with every matrix; numbers that differ do with none.
            if partner.told:
                self.mixing.fix(single.mixing)
            return single if single.node is not None else replace(single, told=one.told or other.told)
        self.mixing.fix(one.mixing)
        self.mixing.fix(other.mixing)
        return replace(one, scale=sum_of(one.scale, other.scale), sign=one.sign ^ other.sign)

    def through_gain(self, one: Leaf, gain: Leaf, by: tuple[Gain, float]) -> Leaf:
        """A product with a gain, which stays where it is when channels mix."""
        part = self._part_of_gain(gain, by[0])
        if one.node is None or gain.node is None or one.mixing is None or part is None:
            return self.times(one, gain)
        self.nodes.tie(one, gain)
        # The gain itself stands still, and what mixes the product is D A D⁻¹ with D made of its entries.
        self.mixing.fix(gain.mixing)
        return replace(
            one,
            mixing=one.mixing.times(part, by[1]),
            scale=sum_of(one.scale, gain.scale),
            sign=one.sign ^ gain.sign,
        )

    def _part_of_gain(self, leaf: Leaf, gain: Gain) -> Gain | None:
        """The entries of a vector of gains that the leaf is; None where these are not known.

        Here ``copies`` holds the spaces of which the gain has entries for each channel.
        """
        size = math.prod(self.shapes[gain.parameter])
        if leaf.width == size:
            return gain
        run = self.runs.get(leaf.scale[0][0] if len(leaf.scale) == 1 else -1)
        if run is None or run.parameter != gain.parameter:
            return None
        stop = run.start + leaf.width * run.stride
        return replace(gain, start=run.start, stop=stop, stride=run.stride, copies=run.beside)

    def against(self, one: Leaf, other: Leaf) -> Leaf:
        """Channels over which a product is summed."""
        self.nodes.tie(one, other)
        if one.node is None or other.node is None:
            single, told = (one, other.told) if one.node is not None else (other, one.told)
            self.factors.none(single)
            if single.mixing is not None:
                # Against data nothing mixes; against one number for all Σ_c x_c stays, where Aᵀ keeps the ones vector.
                if told:
                    self.mixing.fix(single.mixing)
                else:
                    self.mixing.keep_ones(single.mixing)
            return single
        if one.mixing is None or other.mixing is None:
            self.mixing.fix(one.mixing or other.mixing)
        else:
            # Σ_c x_c y_c stays where x is mixed with B and y with B⁻ᵀ.
            self.mixing.unite(one.mixing, other.mixing.partner)
        self.factors.opposite(one, other)
        return one

    def added_up(self, layout: Layout, squares: bool = False) -> None:
        """Channels that are summed, or whose squares are."""
        for leaf in leaves(layout):
            self.factors.none(leaf)
            if leaf.mixing is not None:
                if squares:
                    self.mixing.keep_length(leaf.mixing)
                else:
                    self.mixing.keep_ones(leaf.mixing)
