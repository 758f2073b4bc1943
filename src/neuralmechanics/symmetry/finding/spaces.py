"""Spaces of channels, with the group that acts on each, read off what the interpreter of channels found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from graphlib import TopologicalSorter
from typing import Literal

from neuralmechanics.symmetry.domains.channels.domain import Channels
from neuralmechanics.symmetry.domains.channels.factors import Exponent, independent
from neuralmechanics.symmetry.domains.channels.layout import Layout, Leaf, Product
from neuralmechanics.symmetry.families.actions.terms.gain import Dressing
from neuralmechanics.symmetry.families.spaces import Copies, Direction, Entry, Placement, Space, SpaceGroup
from neuralmechanics.symmetry.finding.members import Member, digits_of, dressing_of, is_acyclic, outer_members
from neuralmechanics.symmetry.finding.settling import settled_channels
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.passes.rewriting.early_takes import with_early_takes
from neuralmechanics.symmetry.program.program import Program

__all__ = ["spaces_of", "turned_spaces"]


_DRAWN = "dropout masks drawn anew: the output is the same in distribution"


def spaces_of(captured: Captured, program: Program, requires: tuple[str, ...] = ()) -> tuple[Space, ...]:
    """Every space whose channels may be permuted, in the order of the parameters.

    The program is interpreted until the dimensions of parameters split no further, then until nothing more is told
    apart: what is claimed holds with all ties in place.
    """
    channels = settled_channels(captured, with_early_takes(program))
    return () if channels is None else tuple(_Reader(channels, requires).spaces())


def turned_spaces(captured: Captured, program: Program) -> list[tuple[Space, tuple[tuple[int, int], ...]]]:
    """Spaces of pairs of channels that a program turns and norms see by length only, with these pairs."""
    channels = settled_channels(captured, with_early_takes(program))
    return [] if channels is None else list(_Reader(channels, ()).turned())


_Vector = tuple[Literal["sign", "scale"], Exponent, bool]  # its kind, its exponents, whether gains stay as they are


class _Reader:
    """Reads spaces off the final state."""

    def __init__(self, channels: Channels, requires: tuple[str, ...]) -> None:
        self.channels, self.requires = channels, requires
        self.members: dict[int, list[Member]] = {}
        self.names: dict[int, str] = {}
        order = 0
        for name, axes in channels.parameters.items():
            for axis, layout in enumerate(axes.layouts):
                for leaf, offset, digits in self._placed(layout, 0, 1, ()):
                    member = Member(name, axes.shape, axis, leaf, offset, digits, order)
                    order += 1
                    self.members.setdefault(self._root(leaf), []).append(member)
        self.within = self._acyclic()
        self.matrices: dict[int, tuple[SpaceGroup | None, int | None]] = {}
        self.vectors: dict[int, list[_Vector]] = {}

    def _root(self, leaf: Leaf) -> int:
        if leaf.node is None:
            raise AssertionError("a leaf without a space")
        return self.channels.nodes.find(leaf.node)

    def _placed(
        self, layout: Layout, offset: int, stride: int, digits: tuple[tuple[int, int, int | None], ...]
    ) -> Iterator[tuple[Leaf, int, tuple[tuple[int, int, int | None], ...]]]:
        """Each leaf with channels, where it starts, and the digits of an index that counts in it."""
        if isinstance(layout, Leaf):
            if layout.node is not None:
                yield layout, offset, (*digits, (layout.width, stride, None))
        elif isinstance(layout, Product):
            strides = [stride] * len(layout.parts)
            for k in range(len(layout.parts) - 2, -1, -1):
                strides[k] = strides[k + 1] * layout.parts[k + 1].width
            counted = [
                (part.width, step, self._root(part) if isinstance(part, Leaf) and part.node is not None else None)
                for part, step in zip(layout.parts, strides, strict=True)
            ]
            for k, part in enumerate(layout.parts):
                others = tuple(digit for j, digit in enumerate(counted) if j != k)
                yield from self._placed(part, offset, strides[k], (*digits, *others))
        else:
            for part in layout.parts:
                yield from self._placed(part, offset, stride, digits)
                offset += part.width * stride

    def _acyclic(self) -> dict[int, list[int]]:
        """For each space, those on whose index its permutation depends: of two that depend on each other, the first."""
        nodes = self.channels.nodes
        first = {root: members[0].order for root, members in self.members.items()}
        known = {
            root: set() if self._is_unread(root) else {nodes.find(n) for n in nodes.within[root] or ()} - {root}
            for root in self.members
        }
        known = {root: others & set(self.members) for root, others in known.items()}
        out: dict[int, list[int]] = {}
        for root, others in known.items():
            # Each could be counted within the other; the choice by the first parameter is the same in every process.
            kept = [n for n in others if root not in known[n] or first[n] < first[root]]
            out[root] = sorted(kept, key=lambda n: first[n])
        return (
            out
            if is_acyclic(out)
            else {root: [n for n in kept if first[n] < first[root]] for root, kept in out.items()}
        )

    def _is_unread(self, root: int) -> bool:
        """Whether nothing is demanded of the space, as of rows that no position reads: no matrix hangs on it."""
        mixing, (first, *others) = self.channels.mixing, self.members[root]
        leg = first.leaf.mixing
        return not others and leg is not None and mixing.is_free(leg)

    # --- spaces -----------------------------------------------------------------------------------------------------

    def spaces(self) -> list[Space]:
        """All, the outer ones before those within."""
        rigid = self.channels.nodes.is_rigid
        moving = self._moving()
        names = self._named(moving)
        inside: dict[int, list[int]] = {root: [] for root in self.members}
        for root in moving:
            for other in self.within[root]:
                inside[other].append(root)
        for root in TopologicalSorter(inside).static_order():  # the inner ones first
            if not rigid(root):
                self.matrices[root] = (None, None) if inside[root] else self._matrices(root)
                self.vectors[root] = self._vectors(root, inside[root])
        return [self._space(root, names) for root in moving]

    def turned(self) -> Iterator[tuple[Space, tuple[tuple[int, int], ...]]]:
        """Those whose matrices turn pairs, with these."""
        mixing = self.channels.mixing
        for space, root in zip(self.spaces(), self._moving(), strict=True):
            node = self.matrices[root][1]
            if node is not None and node in mixing.paired and space.group == "orthogonal":
                yield space, mixing.paired[node]

    def _moving(self) -> list[int]:
        """Spaces that are not held, in the order of the parameters."""
        rigid = self.channels.nodes.is_rigid
        return [root for root in sorted(self.members, key=lambda r: self.members[r][0].order) if not rigid(root)]

    def _named(self, moving: Sequence[int]) -> dict[int, str]:
        names: dict[int, str] = {}
        used: dict[str, int] = {}
        for root in (*moving, *(r for r in self.members if r not in set(moving))):
            first = self.members[root][0]
            base = f"{first.parameter}[{first.axis}]"
            used[base] = used.get(base, 0) + 1
            names[root] = base if used[base] == 1 else f"{base} #{used[base]}"
        return names

    def _space(self, root: int, names: Mapping[int, str]) -> Space:
        members, copies, widths = self.members[root], self.within[root], self.channels.nodes.widths
        matrix, chosen = self.matrices[root]
        entries = tuple(self._entry(member, copies, chosen) for member in members)
        directions = tuple(self._direction(vector, kind, own, members) for kind, vector, own in self.vectors[root])
        return Space(
            names[root],
            matrix or _monomial(directions),
            widths[root],
            entries,
            tuple(Copies(names[n], widths[n]) for n in copies),
            directions,
            (*self.requires, *([_DRAWN] if self._is_drawn(root) else [])),
        )

    def _is_drawn(self, root: int) -> bool:
        nodes = self.channels.nodes
        return any(nodes.find(node) == root for node in self.channels.drawn)

    def _matrices(self, root: int) -> tuple[SpaceGroup | None, int | None]:
        """The group of matrices of most of the entries, and its number among those of the interpreter."""
        mixing = self.channels.mixing
        uses: dict[int, int] = {}
        for member in self.members[root]:
            leg = member.leaf.mixing
            if leg is not None and mixing.moves(leg):
                found = mixing.find(leg)
                if self._dressing(found.dressing, self.within[root]) is None:
                    mixing.fix(leg)
                uses[found.node] = uses.get(found.node, 0) + 1
        # Where entries have matrices of several groups, those of most of them: the others count as permuted alone.
        for node in sorted((n for n in uses if n not in mixing.rigid), key=lambda n: -uses[n]):
            if node in mixing.orthogonal:
                return ("ones-preserving orthogonal" if node in mixing.ones else "orthogonal"), node
            if node not in mixing.ones:
                return "general linear", node
        return None, None

    def _dressing(self, dressing: Dressing, copies: Sequence[int]) -> Dressing | None:
        nodes = self.channels.nodes
        return dressing_of(dressing, copies, [nodes.widths[n] for n in copies], nodes.find)

    def _entry(self, member: Member, copies: Sequence[int], chosen: int | None) -> Entry:
        place = Placement(member.axis, member.offset, tuple(digits_of(member.digits, copies)))
        beside = []
        counted = {d.role for d in place.digits}
        for k, copy in enumerate(copies):
            if k not in counted:
                beside.append(self._beside(member, copy, copies))
        mixing, leg = self.channels.mixing, member.leaf.mixing
        found = mixing.find(leg) if leg is not None else None
        mixes = found is not None and chosen is not None and found.node == chosen
        return Entry(
            member.parameter,
            member.shape,
            place,
            tuple(dict.fromkeys(beside)),
            mixes,
            mixes and found is not None and found.dual,
            self._dressing(found.dressing, copies) or () if mixes and found is not None else (),
            member.parameter not in self.channels.shapes,
        )

    def _beside(self, member: Member, copy: int, copies: Sequence[int]) -> Placement:
        """Where else in the parameter the number of a copy stands."""
        places = [m for m in self.members[copy] if m.parameter == member.parameter and m.axis != member.axis]
        if len(places) != 1:
            raise AssertionError(f"{len(places)} dimensions of {member.parameter} count copies of a space")
        (found,) = places
        digits = [*found.digits[:-1], (*found.digits[-1][:2], copy)]
        return Placement(found.axis, found.offset, tuple(digits_of(digits, copies, own=False)))

    # --- factors ----------------------------------------------------------------------------------------------------

    def _vectors(self, root: int, inner: Sequence[int]) -> list[_Vector]:
        """Independent factors and signs, those that leave gains as they are first; without what other groups do.

        What a matrix of the space's own, or of a space within it, does to all channels alike is left out.
        """
        members = self.members[root]
        variables = [m.variable for m in members if m.leaf.scale]
        multiplying = self.channels.gains - self.channels.biases  # a bias of which a part is also multiplied is none
        gains = [m.variable for m in members if m.parameter in multiplying]
        out: list[_Vector] = []
        kinds: tuple[tuple[Literal["sign", "scale"], int], ...] = (("sign", 2), ("scale", 0))
        for kind, modulus in kinds:
            found = self.channels.factors.directions(variables, modulus)
            own = self.channels.factors.directions(variables, modulus, gains)
            known = self._by_matrix(root, kind) + [v for n in inner for v in self._from_within(members, n, kind)]
            for vector, is_own in [*((v, True) for v in own), *((v, False) for v in found)]:
                if independent(vector, known, modulus):
                    known.append(vector)
                    out.append((kind, vector, is_own))
        return out

    def _by_matrix(self, root: int, kind: str) -> list[Exponent]:
        """The exponents of a diagonal matrix of the space's group."""
        group, chosen = self.matrices[root]
        if group is None or group == "ones-preserving orthogonal" or (kind == "scale" and group == "orthogonal"):
            return []
        mixing = self.channels.mixing
        out: Exponent = {}
        for member in self.members[root]:
            if member.leaf.mixing is not None and (leg := mixing.find(member.leaf.mixing)).node == chosen:
                out[member.variable] = Fraction(-1 if leg.dual and kind == "scale" else 1)
        return [out]

    def _from_within(self, members: Sequence[Member], inner: int, kind: str) -> list[Exponent]:
        """What factors common to all channels of an inner space do to the channels of an outer one.

        Factors that also move tensors without channels of the outer space are none of its own, and are left out.
        """
        out = []
        found = [v for k, v, _ in self.vectors[inner] if k == kind] + self._by_matrix(inner, kind)
        for vector in found:
            total: Exponent = {}
            moved = [(m, power) for m in self.members[inner] if (power := vector.get(m.variable, Fraction(0)))]
            beside = [(next(outer_members(m, members), None), power) for m, power in moved]
            for outer, power in beside:
                if outer is not None:
                    total[outer.variable] = total.get(outer.variable, Fraction(0)) + power
            if all(outer is not None for outer, _ in beside):
                out.append(total)
        return out

    def _direction(self, vector: Exponent, kind: str, own: bool, members: Sequence[Member]) -> Direction:
        variables = [m.variable for m in members]
        if kind == "sign":
            return Direction("sign", tuple(float(vector.get(v, 0) % 2) for v in variables), own)
        broken = self.channels.factors.broken_by(vector)
        return Direction("scale", tuple(float(vector.get(v, 0)) for v in variables), own, broken)


def _monomial(directions: Sequence[Direction]) -> SpaceGroup:
    """By the factors that nothing breaks and that leave gains as they are."""
    kinds = {d.kind for d in directions if d.exact and d.own}
    if len(kinds) == 2:
        return "monomial"
    if not kinds:
        return "permutation"
    return "signed permutation" if "sign" in kinds else "positive monomial"
