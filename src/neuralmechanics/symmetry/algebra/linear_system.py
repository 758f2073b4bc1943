"""A homogeneous linear system over labels, and a local basis of its null space.

Variable 0 is the constant zero. Equalities and zeros, nearly all of what a network imposes, are settled by connected
components of a signed graph; the few remaining rows are eliminated exactly (see ``elimination``), so that every basis
vector stays as local as the network is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from neuralmechanics.symmetry.algebra.elimination import Coefficient, Equation, eliminate, narrowed
from neuralmechanics.symmetry.algebra.rows import row_kinds, unique_rows

__all__ = ["ConstraintSystem", "NullSpace", "Seen"]

Coefficients = tuple[Coefficient, ...]
_PAGE = 10  # bits: variables of one page of 1,024 are replaced together, as far as notes of them are concerned
_CHUNK = 1 << 18  # variables that are looked up at a time, of perhaps many millions
Rows = list[tuple[Coefficients, np.ndarray]]  # coefficients, and a table of variables (rows, coefficients)


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
    def _totals(self) -> np.ndarray:
        """The sum of every row, by which equal variables are told from opposite ones."""
        return np.asarray(self.distinct.sum(axis=1)).reshape(-1)

    def equal(self, left: np.ndarray, right: np.ndarray) -> bool:
        """Whether all variables of two arrays are the same in pairs."""
        one, other = self.place[left], self.place[right]
        if (one == other).all():
            return True
        same = (self.leader[one] == self.leader[other]).all()
        return bool(same) and np.allclose(self._totals[one], self._totals[other], rtol=1e-12, atol=0)

    def entries(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates (position in ``ids``, basis vector, value) of all that is not zero in the variables' rows."""
        rows = self.place[ids.reshape(-1)]
        start = self.distinct.indptr[rows].astype(np.int64)
        count = self.distinct.indptr[rows + 1] - start
        moving = np.flatnonzero(count)
        start, count = start[moving], count[moving]
        position = np.repeat(moving, count)
        at = np.arange(len(position)) + np.repeat(start - (np.cumsum(count) - count), count)
        values = self.distinct.data[at]
        kept = values != 0
        return position[kept], self.distinct.indices[at[kept]].astype(np.int64), values[kept]

    def basis_of(self, ids: np.ndarray) -> np.ndarray:
        """The basis vectors that any of the variables takes part in."""
        return np.unique(self.distinct[np.unique(self.place[ids.reshape(-1)])].indices)

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

    def new(self, count: int) -> np.ndarray:
        """``count`` fresh variables."""
        ids = np.arange(self.size, self.size + count, dtype=np.int32)
        self.size += count
        if self.size > len(self._parent):
            known = len(self._parent)
            more = np.arange(known, max(self.size, known + known // 2), dtype=np.int32)
            self._parent = np.concatenate([self._parent, more])
        self._parent[ids] = ids
        if self.size > len(self._changed) << _PAGE:
            self._changed = np.concatenate([self._changed, np.zeros(1 + (self.size >> _PAGE), dtype=np.int64)])
        return ids

    def seen(self, ids: np.ndarray) -> Seen:
        """A note that these variables, which are what ``resolve`` gave just now, have been looked at."""
        return Seen(ids, self._changes, int(ids.min()) >> _PAGE, int(ids.max()) >> _PAGE)

    def stands(self, note: Seen) -> bool:
        """Whether nothing has replaced any of the variables since they were looked at; False where in doubt."""
        return int(self._changed[note.first : note.last + 1].max()) <= note.change

    def resolve(self, ids: np.ndarray) -> np.ndarray:
        """The variables by which equalities and zeros, as far as they are known by now, replace ``ids``."""
        found: np.ndarray = self._parent.take(ids)
        if (found == ids).all():
            return found
        following = self._parent.take(found)
        if (found == following).all():
            return found
        while (found != following).any():
            found, following = following, self._parent.take(following)
        # The way is shortened for the next who asks; what became zero keeps by whom (see ``causes``).
        known = found != 0
        self._parent[ids[known]] = found[known]
        return found

    def retire(self, ids: np.ndarray) -> None:
        """Takes variables that stand in no row out of the system."""
        self._replaced(ids)
        self._parent[ids] = 0

    def _replaced(self, variables: np.ndarray) -> None:
        self._changes += 1
        self._changed[variables >> _PAGE] = self._changes

    def _vanish(self, variables: np.ndarray, cause: int) -> None:
        roots = self.resolve(variables)
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
        exact = tuple(_exact(c) for c in coefficients)
        if len(exact) == 1:
            self._vanish(table[:, 0], cause)
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
        pairs, general = _simplify(root, sign, [(coefficients, place[table]) for coefficients, table in self._rows])
        while True:
            root, sign = _merge(root, sign, pairs)
            pairs, general = _simplify(root, sign, general)
            if not pairs:
                break
        asked = np.ones(sets, dtype=bool)
        if wanted is not None:
            asked[:] = False
            for ids in wanted:
                asked[root[place[ids.reshape(-1)]]] = True
        return NullSpace(_basis(root, sign, general, asked), place, root, self)

    def _sets(self) -> tuple[np.ndarray, int]:
        """The number of each variable's set of equal ones, zero being in set 0, and how many sets there are."""
        place = np.empty(self.size, dtype=np.int32)
        sets = 0
        for start in range(0, self.size, _CHUNK):
            ids = np.arange(start, min(start + _CHUNK, self.size), dtype=np.int32)
            known = self.resolve(ids)
            own = ids[known == ids]  # the first of each set
            place[own] = np.arange(sets, sets + len(own), dtype=np.int32)
            sets += len(own)
            place[ids] = place[known]
        return place, sets

    @cached_property
    def causes(self) -> np.ndarray:
        """For every variable that an operation forced to zero, with all equal to it by then, its number; else -1."""
        causes = np.full(self.size, -1, dtype=np.int64)
        for variables, cause in reversed(self._zeros):
            causes[variables] = cause
        last = np.arange(self.size)  # what each variable was known by before it became zero
        while (moving := (self._parent[last] != 0) & (self._parent[last] != last)).any():
            last = np.where(moving, self._parent[last], last)
        return causes[last]


def _simplify(root: np.ndarray, sign: np.ndarray, rows: Rows) -> tuple[list[np.ndarray], Rows]:
    """Rows after substitution: signed pairs (a, b, s) meaning a = s·b, with b = 0 for a zero, and the rest."""
    pairs: list[np.ndarray] = []
    rest: dict[Coefficients, list[np.ndarray]] = {}
    for coefficients, table in rows:
        for kept, variables in _collect(coefficients, root[table], sign[table]):
            if len(kept) == 1:
                zeros = np.zeros((len(variables), 1), dtype=np.int64)
                pairs.append(np.hstack([variables, zeros, zeros + 1]))
            elif len(kept) == 2 and abs(kept[0]) == abs(kept[1]):
                same = np.full((len(variables), 1), -1 if kept[0] == kept[1] else 1, dtype=np.int64)
                pairs.append(np.hstack([variables, same]))
            else:
                rest.setdefault(kept, []).append(variables)
    return pairs, [(kept, unique_rows(np.vstack(tables))) for kept, tables in rest.items()]


def _basis(root: np.ndarray, sign: np.ndarray, general: Rows, asked: np.ndarray) -> sparse.csr_matrix:
    """The coordinates of every set of equal variables, of which those that ``asked`` names are wanted."""
    equations: list[Equation] = [
        dict(zip(variables, coefficients, strict=True))
        for coefficients, table in general
        for variables in table.tolist()
    ]
    solved = eliminate(narrowed(equations, set(np.flatnonzero(~asked).tolist())))
    leads = (root == np.arange(len(root))) & asked
    leads[np.fromiter((0, *solved), dtype=np.int64)] = False
    free = np.flatnonzero(leads)
    column = np.full(len(root), -1, dtype=np.int64)
    column[free] = np.arange(len(free))
    direct = np.flatnonzero(column[root] >= 0)
    rows, columns, values = [direct], [column[root[direct]]], [sign[direct].astype(float)]
    if solved:
        followers, variables, factors = _followed(solved, root, sign)
        rows.append(followers)
        columns.append(column[variables])
        values.append(factors)
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(entries, shape=(len(root), len(free)))


def _followed(
    solved: dict[int, Equation], root: np.ndarray, sign: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sets whose leader is solved for, what it is made of, and by which factors: one entry a set and term."""
    length = np.fromiter(map(len, solved.values()), np.int64, len(solved))
    terms = np.fromiter((term for row in solved.values() for term in row), np.int64, length.sum())
    factors = np.fromiter((float(c) for row in solved.values() for c in row.values()), np.float64, length.sum())
    number = np.full(len(root), -1, dtype=np.int64)  # of the definition of each variable that has one
    number[np.fromiter(solved, np.int64, len(solved))] = np.arange(len(solved))
    followers = np.flatnonzero(number[root] >= 0)
    defined = number[root[followers]]
    count = length[defined]
    start = np.cumsum(length)[defined] - count
    at = np.arange(count.sum()) + np.repeat(start - (np.cumsum(count) - count), count)
    return np.repeat(followers, count), terms[at], factors[at] * np.repeat(sign[followers], count)


@lru_cache(maxsize=4096, typed=True)
def _exact(value: Fraction | int | float) -> Coefficient:
    """The simple fraction that a float stands for (1/5, not its binary neighbour), or the float itself."""
    if isinstance(value, float):
        simple = Fraction(value).limit_denominator(1 << 16)
        fraction = simple if abs(float(simple) - value) <= 1e-15 * abs(value) else Fraction(value)
    else:
        fraction = Fraction(value)
    return fraction.numerator if fraction.denominator == 1 else fraction


def _collect(
    coefficients: Coefficients, variables: np.ndarray, signs: np.ndarray
) -> list[tuple[Coefficients, np.ndarray]]:
    """Rows with equal variables added up and zeros dropped, grouped by their remaining coefficients."""
    groups: dict[Coefficients, list[np.ndarray]] = {}
    order = np.argsort(variables, axis=1, kind="stable")
    variables = np.take_along_axis(variables, order, axis=1)
    signs = np.take_along_axis(signs, order, axis=1)
    # Rows alike in where variables coincide, which are zero, and in signs and the order of coefficients, reduce alike.
    different = list(dict.fromkeys(coefficients))
    kind = np.array([different.index(c) for c in coefficients])
    pattern = np.hstack([variables == 0, variables[:, 1:] == variables[:, :-1], signs > 0, kind[order]])
    for rows in row_kinds(pattern, max(1, len(different) - 1)):
        totals: dict[int, Coefficient] = {}
        start, before = 0, 0
        example = (variables[rows[0]], order[rows[0]], signs[rows[0]])
        for position, (variable, place, sign) in enumerate(zip(*(row.tolist() for row in example), strict=True)):
            if variable != before:
                start, before = position, variable
            if variable != 0:
                totals[start] = totals.get(start, 0) + coefficients[place] * sign
        kept = [(position, value) for position, value in totals.items() if value != 0]
        if kept:
            scale = Fraction(kept[0][1])
            key = tuple(_exact(value / scale) for _, value in kept)
            groups.setdefault(key, []).append(variables[rows][:, [position for position, _ in kept]])
    return [(key, np.vstack(tables)) for key, tables in groups.items()]


def _merge(root: np.ndarray, sign: np.ndarray, pairs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Signed union of the variables in ``pairs``: nodes (v, +) and (v, -); a component that holds both is zero."""
    if not pairs:
        return root, sign
    table = np.vstack(pairs)
    nodes, index = np.unique(np.append(table[:, :2].reshape(-1), 0), return_inverse=True)  # node 0 is the zero
    count, ends, same = len(nodes), index[:-1].reshape(-1, 2), table[:, 2] > 0
    a, b = ends[:, 0], ends[:, 1]
    edges_from = np.concatenate([a, a + count, [0]])
    edges_to = np.concatenate([np.where(same, b, b + count), np.where(same, b + count, b), [count]])
    shape = (2 * count, 2 * count)
    graph = sparse.coo_matrix((np.ones(len(edges_from), dtype=np.int8), (edges_from, edges_to)), shape=shape)
    _, component = connected_components(graph, directed=False)
    positive, negative = component[:count], component[count:]
    smallest = np.full(component.max() + 1, count)
    np.minimum.at(smallest, component, np.arange(2 * count) % count)
    leader = smallest[positive]
    zero = positive == negative
    leader[zero] = 0
    relative = np.where(zero | (component[leader] == positive), 1, -1)
    # Compose with what was merged before: v = sign[v]·root[v] and root[v] = relative·leader.
    by_root, by_sign = np.arange(len(root)), np.ones(len(root), dtype=np.int64)
    by_root[nodes], by_sign[nodes] = nodes[leader], relative
    merged = by_root[root]
    return merged, np.where(merged == 0, 1, sign * by_sign[root])
