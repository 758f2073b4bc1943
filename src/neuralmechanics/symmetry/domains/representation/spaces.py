"""Spaces of channels and the groups that act on them: a union-find whose links are duals and gains.

A *leg* is one dimension of a tensor that transforms with a matrix B = D A D⁻¹ or D A⁻ᵀ D⁻¹: A belongs to a space, D is
a product of powers of gains (parameters that multiply channels and do not move). Where two legs meet, their matrices
must be equal; that links their spaces, or restricts the group of one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from neuralmechanics.symmetry.families.actions.terms.gain import Dressing, Gain

__all__ = ["Leg", "Spaces", "dressed"]


@dataclass(frozen=True)
class Leg:
    """B = D A D⁻¹ with A of space ``node``, or with A⁻ᵀ where ``dual`` is set; D = Π gain^exponent."""

    node: int
    dual: bool = False
    dressing: Dressing = ()

    @property
    def partner(self) -> Leg:
        """The leg with B⁻ᵀ, against which this one may be summed."""
        return Leg(self.node, not self.dual, tuple((gain, -power) for gain, power in self.dressing))

    def times(self, gain: Gain, power: float) -> Leg:
        """The leg after a multiplication by gain^power."""
        return Leg(self.node, self.dual, dressed(self.dressing, ((gain, power),)))


def dressed(first: Dressing, second: Dressing, sign: int = 1) -> Dressing:
    """The product D₁·D₂^sign."""
    powers = dict(first)
    for gain, power in second:
        powers[gain] = powers.get(gain, 0.0) + sign * power
    return tuple(sorted((gain, power) for gain, power in powers.items() if power))


@dataclass(eq=False)
class Spaces:
    """All spaces: what each is in terms of another, and what its matrices must be.

    ``rigid``: only the identity; ``orthogonal``: Aᵀ A = 1; ``ones``: A and Aᵀ keep the all-ones vector; ``blind``:
    A = 1 + 1·vᵀ only; ``paired``: A turns and scales pairs of channels as complex numbers. The last four hold in the
    space's own frame, without gains.
    """

    widths: list[int] = field(default_factory=list)
    rigid: set[int] = field(default_factory=set)
    orthogonal: set[int] = field(default_factory=set)
    ones: set[int] = field(default_factory=set)
    blind: set[int] = field(default_factory=set)
    paired: dict[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    _links: dict[int, Leg] = field(default_factory=dict)

    def new(self, width: int) -> Leg:
        """A space of its own."""
        self.widths.append(width)
        return Leg(len(self.widths) - 1)

    def find(self, leg: Leg) -> Leg:
        """The leg in terms of a space that is not given by another."""
        while leg.node in self._links:
            link = self._links[leg.node]
            # The inverse transpose of a product of links is the product of their inverse transposes.
            if leg.dual:
                link = link.partner
            leg = Leg(link.node, link.dual, dressed(leg.dressing, link.dressing))
        return leg

    def fix(self, leg: Leg | None) -> None:
        """Only the identity acts on the leg."""
        if leg is not None:
            self.rigid.add(self.find(leg).node)

    def moves(self, leg: Leg | None) -> bool:
        return leg is not None and self.find(leg).node not in self.rigid

    def is_free(self, leg: Leg) -> bool:
        """Whether any invertible matrix may act on the leg."""
        node = self.find(leg).node
        return not any(node in flag for flag in (self.rigid, self.orthogonal, self.ones, self.blind, self.paired))

    def unite(self, first: Leg | None, second: Leg | None) -> None:
        """Both legs have the same matrix; a missing one does not transform."""
        if first is None or second is None:
            self.fix(first or second)
            return
        a, b = self.find(first), self.find(second)
        if a.node == b.node:
            # D A D⁻¹ = E A E⁻¹ for different gains leaves diagonal A alone: scales, which are found elsewhere.
            if a.dressing != b.dressing:
                self.rigid.add(a.node)
            # A = A⁻ᵀ says that A is orthogonal.
            elif a.dual != b.dual:
                self._restrict(a, self.orthogonal)
            return
        # What is demanded holds without gains in the space's own frame: that space stays, the other is told by it.
        if b.node in self.orthogonal | self.ones | self.blind | self.paired.keys():
            a, b = b, a
        pairs = self.paired.get(b.node)
        flags = [s for s in (self.orthogonal, self.ones, self.blind) if b.node in s]
        link = Leg(a.node, a.dual, dressed(a.dressing, b.dressing, -1))
        self._links[b.node] = link.partner if b.dual else link
        if b.node in self.rigid:
            self.rigid.add(a.node)
        for flag in flags:
            self._restrict(Leg(b.node), flag)
        if pairs is not None:
            self.turn_pairs(Leg(b.node), pairs)

    def keep_length(self, leg: Leg) -> None:
        """The leg's matrix is orthogonal."""
        self._restrict(leg, self.orthogonal)

    def keep_ones(self, leg: Leg) -> None:
        """The leg's matrix and its transpose keep the all-ones vector."""
        self._restrict(leg, self.ones)

    def blind_to_ones(self, leg: Leg) -> None:
        """The leg's matrix may add multiples of the all-ones vector only."""
        self._restrict(leg, self.blind)

    def hollow(self, width: int) -> Leg:
        """A leg whose matrices 1 + v·1ᵀ leave every vector that adds up to zero as it is."""
        leg = self.new(width)
        self.blind_to_ones(leg)
        return leg.partner

    def turn_pairs(self, leg: Leg, pairs: tuple[tuple[int, int], ...]) -> None:
        """The leg's matrix commutes with a quarter turn of each pair, and leaves other channels as they are."""
        root = self.find(leg)
        if root.dressing or root.node in self.ones | self.blind or self.paired.get(root.node, pairs) != pairs:
            self.rigid.add(root.node)
        else:
            self.paired[root.node] = pairs

    def _restrict(self, leg: Leg, flag: set[int]) -> None:
        """Sets a flag in the leg's own frame, which becomes that of its space; rigid where two frames would differ."""
        root = self.find(leg)
        if root.node in self.paired and (root.dressing or flag is not self.orthogonal):
            self.rigid.add(root.node)
            return
        framed = root.node in self.orthogonal | self.ones | self.blind | self.paired.keys()
        if framed and (root.dressing or (root.dual and (flag is self.blind or root.node in self.blind))):
            self.rigid.add(root.node)
            return
        # A frame may still be chosen: a new space stands for the leg itself, the old one is told by it.
        if root.dressing or (root.dual and not framed):
            own = self.new(self.widths[root.node])
            back = Leg(own.node, False, tuple((gain, -power) for gain, power in root.dressing))
            self._links[root.node] = back.partner if root.dual else back
            if root.node in self.rigid:
                self.rigid.add(own.node)
            root = own
        flag.add(root.node)
