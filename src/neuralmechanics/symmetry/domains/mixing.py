"""Mixings: spaces whose channels meet only operations that treat them alike admit any invertible linear map.

The walk over the graph is repeated with the solved scales. Every channel is known by the basis vector of the scale null
space that scales it alone; each operation adds to a channel's signature how it treats the channel. Channels with equal
signatures at the end are one block: GL(d) acts on it, the rescalings being its diagonal.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neuralmechanics.symmetry.algebra.linear_system import NullSpace
from neuralmechanics.symmetry.algebra.sets import distinct
from neuralmechanics.symmetry.domains.scaling.domain import Scales
from neuralmechanics.symmetry.domains.scaling.label import Label, LabelTerm
from neuralmechanics.symmetry.domains.tearing import tears_channels
from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.views import Take, View, squeezed

__all__ = ["Blocks", "Mixings"]

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Sets of basis vectors of the scale null space that mix freely, and pairs that rotate as one complex number."""

    mixing: tuple[np.ndarray, ...]
    rotating: np.ndarray


class Mixings(Scales):
    """The scale interpreter once more, watching how each channel is treated."""

    def __init__(self, original: Scales, space: NullSpace) -> None:
        o = original
        super().__init__(o.shapes, o.elementwise, o.groups, o.contracted, o.single, o.pieces)
        matrix = space.matrix
        count = np.diff(matrix.indptr)
        first = np.minimum(matrix.indptr[:-1], max(0, matrix.nnz - 1))
        basis = matrix.indices[first] if matrix.nnz else np.zeros(len(count), np.int64)
        value = matrix.data[first] if matrix.nnz else np.zeros(len(count))
        alone = (count == 1) & (np.abs(value) == 1)
        self._basis = np.where(alone, basis, -1).astype(np.int64)
        self._sign = np.where(alone, np.sign(value), 0).astype(np.int64)
        self._matrix = matrix
        for label in original.parameters.values():
            for term in label.terms:
                alone[self._without_factor(distinct(term.ids), count)] = True
        size = matrix.shape[1]
        self._signature = np.zeros(size, dtype=np.uint64)
        self._stiff = np.zeros(size, dtype=bool)
        self._pairs: list[np.ndarray] = []
        self._stiff[distinct(matrix[np.flatnonzero(~alone & (count > 0))].indices)] = True

    def _without_factor(self, variables: np.ndarray, count: np.ndarray) -> np.ndarray:
        """Notes the channel behind each variable of an array that also has a factor common to all; those variables."""
        variables = variables[count[variables] > 0]
        if len(variables) < 2 or count[variables].min() < 2 or count[variables].min() != count[variables].max():
            return variables[:0]
        rows = self._matrix[variables].tocoo()
        columns, inverse, uses = np.unique(rows.col, return_inverse=True, return_counts=True)
        low, high = np.full(len(columns), np.inf), np.full(len(columns), -np.inf)
        np.minimum.at(low, inverse, rows.data)
        np.maximum.at(high, inverse, rows.data)
        own = ~((uses == len(variables)) & (low == high))[inverse]
        if own.sum() != len(variables) or len(distinct(rows.row[own])) != len(variables):
            return variables[:0]
        if not (np.abs(rows.data[own]) == 1).all():
            return variables[:0]
        self._basis[variables[rows.row[own]]] = rows.col[own]
        self._sign[variables[rows.row[own]]] = np.sign(rows.data[own]).astype(np.int64)
        return variables

    # --- bookkeeping --------------------------------------------------------------------------------------------

    def _treated(self, terms: Iterable[LabelTerm], dims: Iterable[int], role: int) -> None:
        """Adds to the channels' signatures an operation that tells places along ``dims`` apart."""
        told = tuple(sorted(dims))
        for number, term in enumerate(terms):
            basis = self._basis[term.ids]
            chosen = basis >= 0
            if not chosen.any():
                continue
            code = np.zeros((1,) * term.ids.ndim, dtype=np.int64)
            for d in told:
                n = term.ids.shape[d]
                place = np.arange(n).reshape([n if k == d else 1 for k in range(term.ids.ndim)])
                # In mixed radix, so that every place along all these dimensions together has a number of its own.
                code = code * (n + 1) + place + 1
            code = np.broadcast_to(code, term.ids.shape)[chosen]
            # Numbers and tuples of them hash alike in every process, which texts do not.
            salt = np.uint64(hash((self.position, role, number, told)) & 0xFFFFFFFFFFFFFFFF)
            with np.errstate(over="ignore"):
                np.add.at(
                    self._signature, basis[chosen], _scrambled(code.astype(np.uint64) + _scrambled(salt)) | np.uint64(1)
                )

    def _stiffen(self, terms: Iterable[LabelTerm]) -> None:
        for term in terms:
            self._stiff[distinct(self._matrix[term.ids.reshape(-1)].indices)] = True

    def fix(self, *xs: Label) -> None:
        """What may not change does not mix either."""
        for x in xs:
            self._stiffen(x.terms)
        super().fix(*xs)

    # --- primitives that tell channels apart ----------------------------------------------------------------------

    def view(self, x: Label, view: View) -> Label:
        """Channels of which each takes other entries from beside it are mixed no longer."""
        if isinstance(view, Take):
            self._stiffen(t for t in x.terms if not t.choice and tears_channels(t.ids, view))
        return super().view(x, view)

    def add(self, x: Label, y: Label, scale: float = 1.0) -> Label:
        self._treated(x.terms, (), 1)
        self._treated(y.terms, (), 2)
        self._stiffen_alone(x, y)
        return super().add(x, y, scale)

    def _stiffen_alone(self, x: Label, y: Label) -> None:
        """Summands mix together or not at all, though what scales rows up and columns down leaves both as they are."""
        shape = np.broadcast_shapes(x.shape, y.shape)
        mine, theirs = ([(t, self._channels(t)) for t in self._aligned(v, shape).terms] for v in (x, y))
        for some, others in ((mine, theirs), (theirs, mine)):
            seen = {key for _, key in others}
            self._stiffen(term for term, key in some if key is not None and key not in seen)

    def _channels(self, term: LabelTerm) -> Hashable:
        """Which basis vectors scale which entries; None where none does."""
        found = self._scaling(term)
        return (found.shape, found.tobytes()) if (found >= 0).any() else None

    def _scaling(self, term: LabelTerm) -> np.ndarray:
        """For each entry the basis vector that scales it, and which way; -1 where none does alone.

        Other variables may stand for the same factor (tokens of two sources, one behind the other): what the factors
        do not depend on has one entry.
        """
        basis = self._basis[term.ids]
        return squeezed(np.where(basis >= 0, 2 * basis + (self._sign[term.ids] > 0), -1))

    def _channel_dims(self, term: LabelTerm) -> frozenset[int]:
        """The tensor's dimensions along which its channels differ."""
        return replace(term, ids=self._scaling(term)).dims()

    def mul(self, x: Label, y: Label) -> Label:
        shape = np.broadcast_shapes(x.shape, y.shape)
        for role, (one, other) in enumerate(((x, y), (y, x))):
            aligned = self._aligned(one, shape)
            front = len(shape) - len(other.shape)
            told = [d for d in range(len(shape)) if d >= front and other.shape[d - front] > 1]
            self._treated(aligned.terms, told, 3 + role)
        return super().mul(x, y)

    def power(self, x: Label, exponent: float) -> Label:
        # (A x)^p is no linear map of x^p.
        if exponent != 1:
            self._stiffen(x.terms)
        return super().power(x, exponent)

    def homogeneous(self, x: Label) -> Label:
        self._stiffen(x.terms)
        return super().homogeneous(x)

    def larger(self, x: Label, y: Label) -> Label:
        self._stiffen((*x.terms, *y.terms))
        return super().larger(x, y)

    def noise(self, x: Label) -> Label:
        self._treated(x.terms, range(len(x.shape)), 5)
        return super().noise(x)

    def contract(self, x: Label, y: Label, how: Contraction) -> Label:
        inner = {w.x for w in how.windows} | {w.kernel for w in how.windows}
        for role, (one, mine, other, theirs) in enumerate(((x, how.x, y, how.y), (y, how.y, x, how.x))):
            summed = {letter for letter in mine if letter not in how.out or letter in inner}
            shared = {
                letter for d, letter in enumerate(theirs) if letter in mine and letter in how.out and other.shape[d] > 1
            }
            for number, term in enumerate(one.terms):
                touched = {mine[d] for d in self._channel_dims(term)}
                told = shared | (touched - summed if touched & summed else set())
                self._treated([term], [d for d, letter in enumerate(mine) if letter in told], 10 + 10 * role + number)
        return super().contract(x, y, how)

    def spread_along(self, x: Label, dim: int, apart: Sequence[int] = ()) -> Label:
        self._treated(x.terms, apart, 6)
        return super().spread_along(x, dim, apart)

    def placed(
        self, x: Label | None, source: Label, dim: int, shape: Sequence[int], apart: Sequence[int] = ()
    ) -> Label:
        for role, label in enumerate((source,) if x is None else (source, x)):
            self._treated(label.terms, apart, 7 + role)
        return super().placed(x, source, dim, shape, apart)

    def extremum(self, x: Label, dims: Sequence[int], keepdim: bool) -> Label:
        self._stiffen(x.terms)
        return super().extremum(x, dims, keepdim)

    def pool(
        self, x: Label, dims: Sequence[int], shape: Sequence[int], linear: bool, keeps_constants: bool, how: Hashable
    ) -> Label:
        if not linear:
            self._stiffen(x.terms)
        return super().pool(x, dims, shape, linear, keeps_constants, how)

    def normalise(self, x: Label, dims: Sequence[int], center: bool, broken_by: Breaking | None) -> Label:
        self._stiffen(x.terms)
        return super().normalise(x, dims, center, broken_by)

    def deviation(self, x: Label, dims: Sequence[int], keepdim: bool) -> Label:
        self._stiffen(x.terms)
        return super().deviation(x, dims, keepdim)

    def positions(self, x: Label, dims: Sequence[int], keepdim: bool) -> Label:
        self._stiffen(x.terms)
        return super().positions(x, dims, keepdim)

    def masked(self, x: Label, number: float, shape: Sequence[int]) -> Label:
        self._treated(self._aligned(x, tuple(shape)).terms, range(len(shape)), 6)
        return super().masked(x, number, shape)

    def select(self, x: Label, y: Label, shape: Sequence[int]) -> Label:
        self._treated(self._aligned(x, tuple(shape)).terms, range(len(shape)), 7)
        self._treated(self._aligned(y, tuple(shape)).terms, range(len(shape)), 8)
        return super().select(x, y, shape)

    def cat(self, xs: Sequence[Label], dim: int) -> Label:
        for number, x in enumerate(xs):
            self._treated(x.terms, (), 100 + number)
        return super().cat(xs, dim)

    def paired(self, x: Label, first: Sequence[int], second: Sequence[int]) -> None:
        """Notes channels ``first`` and ``second`` along the last dimension as the parts of complex numbers.

        Which is the real part does not matter: what scales and turns the pair commutes with turns either way round, so
        that queries may meet keys turned as conjugates.
        """
        for term in x.terms:
            basis = self._basis[term.ids]
            if basis.shape[-1] == x.shape[-1] > 1:
                both = np.stack([basis[..., list(part)].reshape(-1) for part in (first, second)], axis=1)
                self._pairs.append(np.unique(np.sort(both[(both >= 0).all(axis=1)], axis=1), axis=0))

    # --- the result ---------------------------------------------------------------------------------------------

    def blocks(self, labels: Mapping[str, Label]) -> Blocks:
        """Blocks of at least two channels, and the pairs that no operation but the rotation tells apart."""
        held = np.zeros(len(self._signature), dtype=bool)
        # Which tensors hold a channel, and with which sign, tells it from others as an operation does.
        for number, label in enumerate(labels.values()):
            for position, term in enumerate(label.terms):
                basis = self._basis[term.ids].reshape(-1)
                sign = self._sign[term.ids].reshape(-1)
                chosen = basis >= 0
                held[basis[chosen]] = True
                salt = _scrambled(np.uint64(1 + 64 * number + position))
                with np.errstate(over="ignore"):
                    np.add.at(self._signature, basis[chosen], _scrambled(salt + (sign[chosen] + 2).astype(np.uint64)))
        free = np.flatnonzero(held & ~self._stiff)
        free = free[np.argsort(self._signature[free], kind="stable")]
        # The complement of the first differs from it: a block starts there, too.
        starts = np.flatnonzero(np.diff(self._signature[free], prepend=~self._signature[free[:1]]))
        lengths = np.diff(starts, append=len(free))
        several = lengths > 1
        pairs = zip(starts[several].tolist(), lengths[several].tolist(), strict=True)
        pieces = sorted((np.sort(free[a : a + n]) for a, n in pairs), key=lambda block: int(block[0]))
        return Blocks(tuple(pieces), self._rotating(held))

    def _rotating(self, held: np.ndarray) -> np.ndarray:
        """Pairs that appear in one partnership only, whose members are treated alike everywhere."""
        pairs = np.unique(np.concatenate(self._pairs or [np.zeros((0, 2), np.int64)]), axis=0)
        uses = np.bincount(pairs.reshape(-1), minlength=len(held))
        good = held & ~self._stiff & (uses == 1)
        first, second = pairs[:, 0], pairs[:, 1]
        alike: np.ndarray = good[first] & good[second] & (self._signature[first] == self._signature[second])
        return np.asarray(pairs[alike])


def _scrambled(value: Any) -> Any:
    """A 64-bit mixing of bits, so that sums of values identify multisets."""
    with np.errstate(over="ignore"):
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))
