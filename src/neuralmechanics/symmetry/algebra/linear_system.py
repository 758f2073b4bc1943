"""A homogeneous linear system over labels, and a local basis of its null space.

Variable 0 is the constant zero. Equalities and zeros, nearly all of what a network imposes, are settled by connected
components of a signed graph; the few remaining rows are eliminated exactly, block by block, so that every basis vector
stays as local as the network is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

__all__ = ["ConstraintSystem", "NullSpace"]


@dataclass(frozen=True)
class NullSpace:
    """A basis of the solutions: ``matrix`` (variables × basis), and for each variable that is zero the cause."""

    matrix: sparse.csr_matrix
    representative: np.ndarray
    system: ConstraintSystem

    @cached_property
    def totals(self) -> np.ndarray:
        """The sum of every variable's row, by which equal variables are told from opposite ones."""
        return np.asarray(self.matrix.sum(axis=1)).reshape(-1)

    def cause(self, arrays: Sequence[np.ndarray]) -> int | None:
        """The first operation that forced any of the variables, or what they are equal to, to zero."""
        found = np.concatenate([np.zeros(0, np.int64), *(self.system.causes[ids].reshape(-1) for ids in arrays)])
        return int(found[found >= 0].min()) if (found >= 0).any() else None


class ConstraintSystem:
    """Collects variables and homogeneous linear rows; ``solve`` returns a local null-space basis."""

    def __init__(self, traced: bool = True) -> None:
        self.size = 1
        self._traced = traced  # whether to keep what forced a variable to zero
        self._parent = np.zeros(1024, dtype=np.int64)
        self._rows: list[tuple[tuple[Fraction, ...], np.ndarray, int]] = []
        self._zeros: list[tuple[np.ndarray, int]] = []

    def new(self, count: int) -> np.ndarray:
        """``count`` fresh variables."""
        ids = np.arange(self.size, self.size + count, dtype=np.int64)
        self.size += count
        if self.size > len(self._parent):
            known = len(self._parent)
            self._parent = np.concatenate([self._parent, np.arange(known, max(self.size, 2 * known))])
        self._parent[ids] = ids
        return ids

    def resolve(self, ids: np.ndarray) -> np.ndarray:
        """The variables by which equalities and zeros, as far as they are known by now, replace ``ids``."""
        found: np.ndarray = self._parent[ids]
        while (found != (following := self._parent[found])).any():
            found = following
        return found

    def retire(self, ids: np.ndarray) -> None:
        """Takes variables that stand in no row out of the system."""
        self._parent[ids] = 0

    def _vanish(self, variables: np.ndarray, cause: int) -> None:
        roots = self.resolve(variables)
        roots = roots[roots != 0]
        if len(roots):
            if self._traced:
                self._zeros.append((roots, cause))
            self._parent[roots] = 0

    def _unite(self, left: np.ndarray, right: np.ndarray) -> None:
        """Makes two arrays of variables equal, each set known by its smallest member (zero, where it holds it)."""
        left, right = self.resolve(left), self.resolve(right)
        differ = left != right
        if not differ.any():
            return
        nodes, index = np.unique(np.concatenate([left[differ], right[differ]]), return_inverse=True)
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
        table = np.asarray(variables, dtype=np.int64).reshape(-1, len(coefficients))
        if not len(table):
            return
        exact = tuple(_exact(c) for c in coefficients)
        if len(exact) == 1:
            self._vanish(table[:, 0], cause)
        elif len(exact) == 2 and exact[0] == -exact[1]:
            self._unite(table[:, 0], table[:, 1])
        else:
            self._rows.append((exact, table, cause))

    def solve(self) -> NullSpace:
        """The null space, with union of signed equalities first and exact elimination of what is left."""
        root = self.resolve(np.arange(self.size))
        sign = np.ones(self.size, dtype=np.int64)
        pairs, general = self._simplify(root, sign, self._rows)
        while True:
            root, sign = _merge(root, sign, pairs)
            pairs, general = self._simplify(root, sign, general)
            if not pairs:
                break
        return NullSpace(self._basis(root, sign, general), root, self)

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

    def _simplify(
        self, root: np.ndarray, sign: np.ndarray, rows: list[tuple[tuple[Fraction, ...], np.ndarray, int]]
    ) -> tuple[list[np.ndarray], list[tuple[tuple[Fraction, ...], np.ndarray, int]]]:
        """Rows after substitution: signed pairs (a, b, s) meaning a = s·b, with b = 0 for a zero, and the rest."""
        pairs: list[np.ndarray] = []
        rest: dict[tuple[Fraction, ...], list[np.ndarray]] = {}
        for coefficients, table, _ in rows:
            for kept, variables in _collect(coefficients, root[table], sign[table]):
                if len(kept) == 1:
                    zeros = np.zeros((len(variables), 1), dtype=np.int64)
                    pairs.append(np.hstack([variables, zeros, zeros + 1]))
                elif len(kept) == 2 and abs(kept[0]) == abs(kept[1]):
                    same = np.full((len(variables), 1), -1 if kept[0] == kept[1] else 1, dtype=np.int64)
                    pairs.append(np.hstack([variables, same]))
                else:
                    rest.setdefault(kept, []).append(variables)
        general = [(kept, np.unique(np.vstack(tables), axis=0), -1) for kept, tables in rest.items()]
        return pairs, general

    def _basis(
        self, root: np.ndarray, sign: np.ndarray, general: list[tuple[tuple[Fraction, ...], np.ndarray, int]]
    ) -> sparse.csr_matrix:
        solved = _eliminate(general)
        leads = root == np.arange(self.size)
        leads[np.fromiter((0, *solved), dtype=np.int64)] = False
        free = np.flatnonzero(leads)
        column = np.full(self.size, -1, dtype=np.int64)
        column[free] = np.arange(len(free))
        direct = np.flatnonzero(column[root] >= 0)
        rows, columns, values = [direct], [column[root[direct]]], [sign[direct].astype(float)]
        if solved:
            followers = np.flatnonzero(np.isin(root, np.fromiter(solved, dtype=np.int64)))
            for variable, r, s in zip(followers, root[followers].tolist(), sign[followers].tolist(), strict=True):
                definition = solved[r]
                rows.append(np.full(len(definition), variable))
                columns.append(column[np.fromiter(definition, dtype=np.int64, count=len(definition))])
                values.append(np.array([float(value) * s for value in definition.values()]))
        entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        return sparse.csr_matrix(entries, shape=(self.size, len(free)))


def _exact(value: Fraction | int | float) -> Fraction:
    """The simple fraction that a float stands for (1/5, not its binary neighbour), or the float itself."""
    if isinstance(value, float):
        simple = Fraction(value).limit_denominator(1 << 16)
        return simple if abs(float(simple) - value) <= 1e-15 * abs(value) else Fraction(value)
    return Fraction(value)


def _collect(
    coefficients: tuple[Fraction, ...], variables: np.ndarray, signs: np.ndarray
) -> list[tuple[tuple[Fraction, ...], np.ndarray]]:
    """Rows with equal variables added up and zeros dropped, grouped by their remaining coefficients."""
    groups: dict[tuple[Fraction, ...], list[np.ndarray]] = {}
    order = np.argsort(variables, axis=1, kind="stable")
    variables = np.take_along_axis(variables, order, axis=1)
    signs = np.take_along_axis(signs, order, axis=1)
    # Rows alike in where variables coincide, which are zero, and in signs and order, reduce to the same coefficients.
    pattern = np.hstack([variables == 0, variables[:, 1:] == variables[:, :-1], signs > 0, order])
    _, first, inverse = np.unique(pattern, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    for kind, example in enumerate(first.tolist()):
        rows = variables[inverse == kind]
        totals: dict[int, Fraction] = {}
        for position in range(variables.shape[1]):
            if variables[example, position] != 0:
                start = position
                while start > 0 and variables[example, start - 1] == variables[example, position]:
                    start -= 1
                value = coefficients[order[example, position]] * int(signs[example, position])
                totals[start] = totals.get(start, Fraction(0)) + value
        kept = [(position, value) for position, value in totals.items() if value != 0]
        if kept:
            scale = kept[0][1]
            key = tuple(value / scale for _, value in kept)
            groups.setdefault(key, []).append(rows[:, [position for position, _ in kept]])
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


def _eliminate(general: list[tuple[tuple[Fraction, ...], np.ndarray, int]]) -> dict[int, dict[int, Fraction]]:
    """Exact elimination; the latest variable of a row is solved for, so that the earliest ones stay free."""
    solved: dict[int, dict[int, Fraction]] = {}
    uses: dict[int, set[int]] = {}
    for coefficients, table, _ in general:
        for variables in table.tolist():
            row: dict[int, Fraction] = {}
            for variable, value in zip(variables, coefficients, strict=True):
                for other, factor in solved.get(variable, {variable: Fraction(1)}).items():
                    row[other] = row.get(other, Fraction(0)) + value * factor
            row = {variable: value for variable, value in row.items() if value}
            if not row:
                continue
            pivot = max(row)
            scale = -row.pop(pivot)
            definition = {variable: value / scale for variable, value in row.items()}
            for user in uses.pop(pivot, ()):  # substitute into what was solved before
                factor = solved[user].pop(pivot)
                for variable, value in definition.items():
                    total = solved[user].get(variable, Fraction(0)) + factor * value
                    if total:
                        solved[user][variable] = total
                        uses.setdefault(variable, set()).add(user)
                    else:
                        solved[user].pop(variable, None)
                        uses.get(variable, set()).discard(user)
            solved[pivot] = definition
            for variable in definition:
                uses.setdefault(variable, set()).add(pivot)
    return solved
