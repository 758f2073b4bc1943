"""Rows reduced by signed equalities: variables that are plus or minus one another, or zero, become one."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from neuralmechanics.symmetry.algebra.elimination import Coefficient
from neuralmechanics.symmetry.algebra.rows import row_kinds, unique_rows

Coefficients = tuple[Coefficient, ...]


Rows = list[tuple[Coefficients, np.ndarray]]  # coefficients, and a table of variables (rows, coefficients)


def simplify(root: np.ndarray, sign: np.ndarray, rows: Rows) -> tuple[list[np.ndarray], Rows]:
    """Rows after substitution: signed pairs (a, b, s) meaning a = s·b, with b = 0 for a zero, and the rest."""
    pairs: list[np.ndarray] = []
    rest: dict[Coefficients, list[np.ndarray]] = {}
    for coefficients, table in rows:
        for kept, variables in _collect(coefficients, root[table], sign[table]):
            if len(kept) == 1:
                zeros = np.zeros((len(variables), 1), dtype=np.int64)
                pairs.append(np.hstack([variables, zeros, zeros + 1]))
            # a = ±b merges two variables; a = 2b does not, for a set holds its members up to sign only.
            elif len(kept) == 2 and abs(kept[0]) == abs(kept[1]):
                same = np.full((len(variables), 1), -1 if kept[0] == kept[1] else 1, dtype=np.int64)
                pairs.append(np.hstack([variables, same]))
            else:
                rest.setdefault(kept, []).append(variables)
    return pairs, [(kept, unique_rows(np.vstack(tables))) for kept, tables in rest.items()]


@lru_cache(maxsize=4096, typed=True)
def exact_coefficient(value: Fraction | int | float) -> Coefficient:
    """The simple fraction that a float stands for (1/5, not its binary neighbour), or the float itself."""
    # 1/5 as the float next to it would not cancel against 5 in exact arithmetic: a constraint that is the sum of
    # others would count as a new one and end symmetries that exist. 1e-15 allows for some roundings.
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
            # Divided by the first coefficient: rows that are multiples of one another are the same constraint.
            scale = Fraction(kept[0][1])
            key = tuple(exact_coefficient(value / scale) for _, value in kept)
            groups.setdefault(key, []).append(variables[rows][:, [position for position, _ in kept]])
    return [(key, np.vstack(tables)) for key, tables in groups.items()]


def merge(root: np.ndarray, sign: np.ndarray, pairs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Signed union of the variables in ``pairs``: nodes (v, +) and (v, -); a component that holds both is zero."""
    if not pairs:
        return root, sign
    table = np.vstack(pairs)
    # The smallest node of a component leads it, so that zero, which is node 0, leads all that is zero.
    nodes, index = np.unique(np.append(table[:, :2].reshape(-1), 0), return_inverse=True)  # node 0 is the zero
    count, ends, same = len(nodes), index[:-1].reshape(-1, 2), table[:, 2] > 0
    a, b = ends[:, 0], ends[:, 1]
    # a = b joins (a, +) to (b, +) and (a, -) to (b, -), a = -b crosswise; the last edge says that 0 = -0.
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
