"""A homogeneous linear system over labels, and a local basis of its null space.

Variable 0 is the constant zero. Equalities and zeros, nearly all of what a network imposes, are settled by connected
components of a signed graph; the few remaining rows are eliminated exactly (see ``elimination``), so that every basis
vector stays as local as the network is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from neuralmechanics.symmetry.algebra.local_basis import local_basis
from neuralmechanics.symmetry.algebra.reduction import Rows, exact_coefficient, merge, simplify
from neuralmechanics.symmetry.algebra.sets import distinct

__all__ = ["ConstraintSystem", "NullSpace", "Seen"]


_PAGE = 10  # bits: variables of one page of 1,024 are replaced together, as far as notes of them are concerned
_FEW = 4096  # variables: of fewer it does not pay to leave out the zeros
_CHUNK = 1 << 18  # variables that are looked up at a time, of perhaps many millions


@dataclass(frozen=True)
class NullSpace:
    """A basis of the solutions.

    Nearly all variables are equal to others or zero, so the coordinates are kept once for each set of equal ones:
    variable v has row ``place[v]`` of ``distinct`` (sets × basis). ``leader`` tells for each set which set it is plus
    or minus one of.
    """

    distinct: sparse.csr_matrix
    place: np.ndarray
    leader: np.ndarray
    system: ConstraintSystem

    @property
    def count(self) -> int:
        """The number of basis vectors."""
        return int(self.distinct.shape[1])

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """The basis (variables × basis vectors)."""
        return self.distinct[self.place]

    @cached_property
    def _signs(self) -> np.ndarray:
        """The sign of every row's first entry, by which equal variables are told from opposite ones."""
        rows = self.distinct.copy()
        rows.eliminate_zeros()
        rows.sort_indices()
        # Not the sum of a row: that of d = a - b is the sum of its opposite, zero.
        signs = np.zeros(rows.shape[0], dtype=np.int8)
        moving = np.flatnonzero(np.diff(rows.indptr))
        signs[moving] = np.sign(rows.data[rows.indptr[moving]])
        return signs

    def equal(self, left: np.ndarray, right: np.ndarray) -> bool:
        """Whether all variables of two arrays are the same in pairs."""
        one, other = self.place[left], self.place[right]
        if (one == other).all():
            return True
        same = (self.leader[one] == self.leader[other]).all()
        return bool(same) and bool((self._signs[one] == self._signs[other]).all())

    def entries(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates (position in ``ids``, basis vector, value) of all that is not zero in the variables' rows."""
        rows = self.place[ids.reshape(-1)]
        start = self.distinct.indptr[rows].astype(np.int64)
        count = self.distinct.indptr[rows + 1] - start
        # Most variables are zero and have no entries: they cost nothing from here on.
        moving = np.flatnonzero(count)
        start, count = start[moving], count[moving]
        position = np.repeat(moving, count)
        # The stretches start, …, start + count - 1 of all rows, one behind the other, without a loop in Python.
        at = np.arange(len(position)) + np.repeat(start - (np.cumsum(count) - count), count)
        values = self.distinct.data[at]
        kept = values != 0
        return position[kept], self.distinct.indices[at[kept]].astype(np.int64), values[kept]

    def basis_of(self, ids: np.ndarray) -> np.ndarray:
        """The basis vectors that any of the variables takes part in."""
        return distinct(self.distinct[distinct(self.place[ids.reshape(-1)])].indices)

    def cause(self, arrays: Sequence[np.ndarray]) -> int | None:
        """The first operation that forced any of the variables, or what they are equal to, to zero."""
        found = np.concatenate([np.zeros(0, np.int64), *(self.system.causes[ids].reshape(-1) for ids in arrays)])
        return int(found[found >= 0].min()) if (found >= 0).any() else None


@dataclass(frozen=True, eq=False)
class Seen:
    """Variables, the number of changes by when they were looked at, and the pages that they lie on."""

    ids: np.ndarray
    change: int
    first: int
    last: int


class ConstraintSystem:
    """Collects variables and homogeneous linear rows; ``solve`` returns a local null-space basis."""

    def __init__(self, traced: bool = True) -> None:
        self.size = 1
        self._traced = traced  # whether to keep what forced a variable to zero
        self._parent = np.zeros(1024, dtype=np.int32)
        self._changes = 0
        self._changed = np.zeros(1, dtype=np.int64)  # for each page of variables, by which change one was last replaced
        self._rows: Rows = []
        self._zeros: list[tuple[np.ndarray, int]] = []
        self._sums: list[np.ndarray] = []

    def new(self, count: int) -> np.ndarray:
        """``count`` fresh variables."""
        ids = np.arange(self.size, self.size + count, dtype=np.int32)
        self.size += count
        if self.size > len(self._parent):
            known = len(self._parent)
            # Grown by half each time, so that all growing together is linear in the final size.
            more = np.arange(known, max(self.size, known + known // 2), dtype=np.int32)
            self._parent = np.concatenate([self._parent, more])
        self._parent[ids] = ids
        if self.size > len(self._changed) << _PAGE:
            self._changed = np.concatenate([self._changed, np.zeros(1 + (self.size >> _PAGE), dtype=np.int64)])
        return ids

    def new_sums(self, count: int) -> np.ndarray:
        """``count`` fresh variables for what several pairs of others add up to: these are solved for, not the sums."""
        ids = self.new(count)
        self._sums.append(ids)
        return ids

    def seen(self, ids: np.ndarray) -> Seen:
        """A note that these variables, which are what ``resolve`` gave just now, have been looked at."""
        return Seen(ids, self._changes, int(ids.min()) >> _PAGE, int(ids.max()) >> _PAGE)

    def stands(self, note: Seen) -> bool:
        """Whether nothing has replaced any of the variables since they were looked at; False where in doubt."""
        return int(self._changed[note.first : note.last + 1].max()) <= note.change

    def resolve(self, ids: np.ndarray) -> np.ndarray:
        """The variables by which equalities and zeros, as far as they are known by now, replace ``ids``."""
        if ids.size > _FEW:
            moving = np.flatnonzero(ids != 0)  # of truth values it is several times as fast
            if len(moving) < ids.size // 4:  # coefficients of a part in a concatenation are zero on the other parts
                out = np.zeros(ids.size, ids.dtype)
                out[moving] = self.resolve(ids.reshape(-1)[moving])
                return out.reshape(ids.shape)
        found: np.ndarray = self._parent.take(ids)
        if (found == ids).all():
            return found
        following = self._parent.take(found)
        if (found == following).all():
            return found
        # All chains of replacements are followed at once, one link a round.
        while (found != following).any():
            found, following = following, self._parent.take(following)
        # The way is shortened for the next who asks; what became zero keeps by whom (see ``causes``).
        known = found != 0
        self._parent[ids[known]] = found[known]
        return found

    def retire(self, ids: np.ndarray) -> None:
        """Takes variables that stand in no row out of the system."""
        self._replaced(ids)
        # Zero without a cause: no operation forced them, and none is to be blamed in a refusal.
        self._parent[ids] = 0

    def _replaced(self, variables: np.ndarray) -> None:
        self._changes += 1
        self._changed[variables >> _PAGE] = self._changes

    def _vanish(self, variables: np.ndarray, cause: int) -> None:
        roots = self.resolve(variables)
        # What is zero already keeps the operation that was first to make it so.
        roots = roots[roots != 0]
        if len(roots):
            if self._traced:
                self._zeros.append((roots, cause))
            self._replaced(roots)
            self._parent[roots] = 0

    def _unite(self, left: np.ndarray, right: np.ndarray) -> None:
        """Makes two arrays of variables equal, each set known by its smallest member (zero, where it holds it)."""
        left, right = self.resolve(left), self.resolve(right)
        differ = left != right
        if not differ.any():
            return
        nodes, index = np.unique(np.concatenate([left[differ], right[differ]]), return_inverse=True)
        self._replaced(nodes)
        if len(nodes) == len(index):  # every variable stands once: the pairs are the components
            self._parent[np.maximum(left[differ], right[differ])] = np.minimum(left[differ], right[differ])
            return
        first, second = index[: differ.sum()], index[differ.sum() :]
        # Pairs that share variables make chains: their components are found all at once, not link by link.
        graph = sparse.coo_matrix((np.ones(len(first), dtype=np.int8), (first, second)), shape=(len(nodes), len(nodes)))
        _, component = connected_components(graph, directed=False)
        smallest = np.full(component.max() + 1, nodes.max() + 1)
        np.minimum.at(smallest, component, nodes)
        self._parent[nodes] = smallest[component]

    def add(self, coefficients: Sequence[Fraction | int | float], variables: np.ndarray, cause: int = -1) -> None:
        """Σ_k coefficients[k]·variables[row, k] = 0 for every row; ``cause`` numbers the operation that asks for it."""
        table = np.asarray(variables).reshape(-1, len(coefficients))
        if not len(table):
            return
        exact = tuple(exact_coefficient(c) for c in coefficients)
        if len(exact) == 1:
            self._vanish(table[:, 0], cause)
        # x = y is settled here, for any common factor; x = -y needs a sign, which ``solve`` alone keeps.
        elif len(exact) == 2 and exact[0] == -exact[1]:
            self._unite(table[:, 0], table[:, 1])
        else:
            self._rows.append((exact, table))

    def solve(self, wanted: Iterable[np.ndarray] | None = None) -> NullSpace:
        """The null space, with union of signed equalities first and exact elimination of what is left.

        ``wanted``: the variables that are asked for. Rows of others are then left empty, and vectors that move none of
        those asked for are left out.
        """
        place, sets = self._sets()
        root, sign = np.arange(sets), np.ones(sets, dtype=np.int64)
        pairs, general = simplify(root, sign, [(coefficients, place[table]) for coefficients, table in self._rows])
        # A row that mergers shortened to one variable or two is a pair itself, and may shorten others.
        while True:
            root, sign = merge(root, sign, pairs)
            pairs, general = simplify(root, sign, general)
            if not pairs:
                break
        asked = np.ones(sets, dtype=bool)
        if wanted is not None:
            asked[:] = False
            for ids in wanted:
                asked[root[place[ids.reshape(-1)]]] = True
        known = np.concatenate([np.zeros(0, np.int32), *self._sums])
        sums = frozenset(root[place[known]].tolist())
        return NullSpace(local_basis(root, sign, general, asked, sums), place, root, self)

    def _sets(self) -> tuple[np.ndarray, int]:
        """The number of each variable's set of equal ones, zero being in set 0, and how many sets there are."""
        place = np.empty(self.size, dtype=np.int32)
        sets = 0
        for start in range(0, self.size, _CHUNK):
            ids = np.arange(start, min(start + _CHUNK, self.size), dtype=np.int32)
            known = self.resolve(ids)
            # A set is known by its smallest member, so that its number is there before a later piece asks for it.
            own = ids[known == ids]  # the first of each set
            place[own] = np.arange(sets, sets + len(own), dtype=np.int32)
            sets += len(own)
            place[ids] = place[known]
        return place, sets

    @cached_property
    def causes(self) -> np.ndarray:
        """For every variable that an operation forced to zero, with all equal to it by then, its number; else -1."""
        causes = np.full(self.size, -1, dtype=np.int64)
        # Backwards, so that the first operation that forced a variable is the one that stays.
        for variables, cause in reversed(self._zeros):
            causes[variables] = cause
        last = np.arange(self.size)  # what each variable was known by before it became zero
        while (moving := (self._parent[last] != 0) & (self._parent[last] != last)).any():
            last = np.where(moving, self._parent[last], last)
        return causes[last]
