"""Which part of a factor is taken on by which part of what is added: slices of the one against slices of the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neuralmechanics.slices import SliceView
from neuralmechanics.symmetry.algebra.rows import unique_rows
from neuralmechanics.symmetry.passes.modulating.linear_parts import ENTRIES, Part, aligned, along
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.views import squeezed
from neuralmechanics.symmetry.program.program import Instruction

__all__ = ["Added", "Frame", "Pair", "Product"]

_LARGEST = 1 << 20  # triples of slices and entries that are followed


@dataclass(frozen=True, eq=False)
class Product:
    """δ at ``entries`` is the same as B_i + c·δ⊙G_s: of each, slices of the absorber and of the source."""

    absorber: SliceView
    source: SliceView
    slices: np.ndarray
    sources: np.ndarray
    entries: np.ndarray
    factor: float


@dataclass(frozen=True, eq=False)
class Added:
    """A part of what is added to a multiple of a product, and where in the product its entries lie.

    ``places``: for each dimension of the product, the index along it; ``reader``: the sum, and which operand it is.
    """

    part: Part
    places: tuple[np.ndarray, ...]
    factor: float
    reader: Instruction
    place: int


@dataclass(frozen=True, eq=False)
class Pair:
    """A part of g and one of b that takes it on: numbers of slices of both, at each entry of the sum."""

    source: Part
    added: Added
    slices: np.ndarray
    sources: np.ndarray


@dataclass(frozen=True, eq=False)
class Frame:
    """The dimensions of a product, and those that it sums over, behind them; ``mine`` are the letters of what moves."""

    mine: str
    theirs: str
    letters: str
    out: int
    sizes: Mapping[str, int]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, instruction: Instruction, how: Contraction, place: int) -> Frame:
        mine, theirs = (how.x, how.y) if place == 0 else (how.y, how.x)
        summed = "".join(k for k in dict.fromkeys(how.x + how.y) if k not in how.out)
        x, y = instruction.operands
        sizes = how.sizes(x.shape, y.shape)
        return cls(mine, theirs, how.out + summed, len(how.out), sizes, instruction.operands[place].shape)

    def paired(self, source: Part, added: Added) -> Pair | None:
        """The two parts, if they are one function of their slices and of the same places in the data."""
        part = added.part
        constant = source.core == ENTRIES and part.picked  # a constant is a table of equal rows
        if not constant and (source.core != part.core or source.inner != part.inner):
            return None
        spread = self._spread(added)
        rest = [self._at(self._framed(a), spread) for a in source.rest]
        for mine, theirs in zip(rest, part.rest, strict=True) if not constant else ():
            one, other = squeezed(mine), squeezed(self._behind(theirs))
            if one.shape != other.shape or not np.array_equal(one, other):
                return None
        rank = added.places[0].ndim if added.places else 0
        sources = self._at(self._framed(source.numbers(len(self.theirs))), spread)
        pair = Pair(source, added, self._behind(part.numbers(rank)), sources)
        return pair if self._one_each(self._rows(pair, np.zeros((), np.int64))) else None

    def moving(self, pairs: Sequence[Pair]) -> list[int]:
        """The dimensions of what moves along which δ may differ: each slice that absorbs is of one entry only."""
        wide = [d for d, n in enumerate(self.shape) if n > 1]
        return [d for d in wide if all(self._told(pair, self._index(pair, d), d) for pair in pairs)]

    def product(self, pair: Pair, moving: Sequence[int]) -> Product | None:
        """What one part takes on."""
        sizes = [n if d in moving else 1 for d, n in enumerate(self.shape)]
        entries = np.zeros((), np.int64)
        for d, n in enumerate(sizes):
            entries = entries * n + (self._index(pair, d) if d in moving else 0)
        rows = self._rows(pair, entries)
        if rows is None or not self._one_each(rows):
            return None
        slices, sources, entry, *_ = rows.T
        part, source = pair.added.part, pair.source
        factor = pair.added.factor * source.factor / part.factor
        return Product(part.view, source.view, slices, sources, entry, factor)

    def _one_each(self, rows: np.ndarray | None) -> bool:
        """Whether each slice takes on one product for each term of the sum, at whichever entries it is read."""
        return rows is not None and len(unique_rows(np.delete(rows, [1, 2], axis=1))) == len(rows)

    def _told(self, pair: Pair, index: np.ndarray, d: int) -> bool:
        """Whether the slice that absorbs, and the term of the sum, tell the index along a dimension of δ."""
        if self.letters.index(self.mine[d]) >= self.out:
            return True
        rows = self._rows(pair, index)
        if rows is None:
            return False
        keys = np.delete(unique_rows(rows[:, [0, 2]]), 1, axis=1)
        return len(unique_rows(keys)) == len(keys)

    def _rows(self, pair: Pair, entries: np.ndarray) -> np.ndarray | None:
        """Slices, sources, entries of δ and places in the sum, each combination once."""
        extra = self.letters[self.out :]
        rank = max(pair.slices.ndim, pair.sources.ndim)
        summed = [along(self.sizes[k], rank - len(extra) + j, rank) for j, k in enumerate(extra)]
        arrays = [pair.slices, pair.sources, entries, *summed]
        sizes = np.broadcast_shapes(*(a.shape for a in arrays))
        if np.prod(sizes, dtype=np.int64) > _LARGEST:
            return None
        return unique_rows(np.stack([np.broadcast_to(a, sizes).reshape(-1) for a in arrays], axis=1))

    def _index(self, pair: Pair, d: int) -> np.ndarray:
        """The index of δ along a dimension, at each entry of the sum."""
        own = along(self.shape[d], self.letters.index(self.mine[d]), len(self.letters))
        return self._at(own, self._spread(pair.added))

    def _framed(self, array: np.ndarray) -> np.ndarray:
        """An array over the dimensions of the other factor over all of the frame."""
        order = [self.theirs.index(k) for k in self.letters if k in self.theirs]
        sizes = [array.shape[self.theirs.index(k)] if k in self.theirs else 1 for k in self.letters]
        return array.transpose(order).reshape(sizes)

    def _behind(self, array: np.ndarray) -> np.ndarray:
        """An array over the dimensions of the sum, with one entry along those that the product summed over."""
        return array.reshape(array.shape + (1,) * (len(self.letters) - self.out))

    def _spread(self, added: Added) -> list[np.ndarray]:
        """For each dimension of the frame the index along it, at each entry of the sum and each term of the product."""
        places = [self._behind(aligned(a, added.places[0].ndim)) for a in added.places]
        rank = places[0].ndim if places else len(self.letters) - self.out
        extra = self.letters[self.out :]
        return [*places, *(along(self.sizes[k], rank - len(extra) + j, rank) for j, k in enumerate(extra))]

    def _at(self, array: np.ndarray, spread: Sequence[np.ndarray]) -> np.ndarray:
        """The entries of an array over the frame where the entries of the sum lie."""
        rank = spread[0].ndim if spread else 0
        first = np.zeros((1,) * rank, np.int64)
        index = tuple(place if n > 1 else first for place, n in zip(spread, array.shape, strict=True))
        return array[index] if index else array
