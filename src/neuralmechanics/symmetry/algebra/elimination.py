"""Exact elimination in sparse linear equations, and the vectors that are independent of those before them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

__all__ = ["Coefficient", "Equation", "eliminate", "narrowed"]

Coefficient = int | Fraction  # whole numbers as int, which is many times as fast
Equation = dict[int, Coefficient]  # Σ coefficient · variable = 0


def narrowed(equations: Sequence[Equation], unwanted: set[int]) -> list[Equation]:
    """What the equations say of all variables but the unwanted ones: the projection of their solutions.

    The unwanted variables are solved for one at a time, the latest first, each by the shortest equation that holds it.
    A sum of many terms is written as a chain of partial sums, s_k = s_(k-1) + b_k; solved from its end the chain folds
    up, while s_k in terms of all b would be as long as k.

    >>> narrowed([{1: 1, 2: 1, 5: -1}, {5: 1, 3: 1, 6: -1}, {6: 2}], {5, 6})
    [{1: 1, 2: 1, 3: 1}]
    """
    rows = [dict(equation) for equation in equations]
    holding: dict[int, set[int]] = {}
    for number, row in enumerate(rows):
        for variable in row:
            if variable in unwanted:
                holding.setdefault(variable, set()).add(number)
    for variable in sorted(holding, reverse=True):
        numbers = holding.pop(variable)
        # An unwanted variable that has cancelled out of all rows puts no condition on the others.
        if not numbers:
            continue
        # The shortest brings fewest terms into the others; equal ones by number, so that all processes solve alike.
        pivot = min(numbers, key=lambda number: (len(rows[number]), number))
        used, rows[pivot] = rows[pivot], {}
        scale = used.pop(variable)
        # The pivot is used up and no longer holds any variable.
        for other in used.keys() & unwanted:
            holding[other].discard(pivot)
        for number in numbers - {pivot}:
            row = rows[number]
            factor = quotient(-row.pop(variable), scale)
            for other, value in used.items():
                _add(row, other, factor * value)
                if other in unwanted:
                    # Terms come and cancel: a stale note would offer a row as pivot that does not hold the variable.
                    (set.add if other in row else set.discard)(holding[other], number)
    return [row for row in rows if row]


def eliminate(equations: Iterable[Equation], sums: frozenset[int] = frozenset()) -> dict[int, Equation]:
    """Each variable that others determine, in terms of those: the latest of an equation is solved for.

    The earliest variables so stay free, and no definition holds a variable that has one. Of ``sums`` one is solved for
    only where an equation holds nothing else: of a_i + b_i = s each b_i is s - a_i, and not a_0 + b_0 - a_i.

    >>> eliminate([{1: 1, 2: 2, 3: -2}, {2: 1, 3: 1}])
    {3: {1: Fraction(1, 4)}, 2: {1: Fraction(-1, 4)}}
    >>> eliminate([{1: 1, 3: 1, 5: -1}, {2: 1, 4: 1, 5: -1}], frozenset({5}))
    {3: {1: -1, 5: 1}, 4: {2: -1, 5: 1}}
    """
    solved: dict[int, Equation] = {}
    # For each free variable the definitions that hold it, so that a new pivot touches these and not all of them.
    uses: dict[int, set[int]] = {}
    for equation in equations:
        # Definitions hold free variables alone: one round of substitution leaves free variables alone in the row.
        row: Equation = {}
        for variable, value in equation.items():
            definition = solved.get(variable)
            if definition is None:
                _add(row, variable, value)
            else:
                for other, factor in definition.items():
                    _add(row, other, value * factor)
        if not row:
            continue
        pivot = max(row.keys() - sums or row)
        scale = -row.pop(pivot)
        definition = {variable: quotient(value, scale) for variable, value in row.items()}
        for user in uses.pop(pivot, ()):  # substitute into what was solved before
            factor = solved[user].pop(pivot)
            for variable, value in definition.items():
                _add(solved[user], variable, factor * value)
                if variable in solved[user]:
                    uses.setdefault(variable, set()).add(user)
                else:
                    uses.get(variable, set()).discard(user)
        solved[pivot] = definition
        for variable in definition:
            uses.setdefault(variable, set()).add(pivot)
    return solved


def quotient(value: Coefficient, by: Coefficient) -> Coefficient:
    """value / by, as a whole number where it is one."""
    # Nearly all coefficients of a network are 1 or -1, and no Fraction need be made for them.
    if by == 1:
        return value
    if by == -1:
        return -value
    exact = Fraction(value) / by
    return exact.numerator if exact.denominator == 1 else exact


def _add(row: Equation, variable: int, value: Coefficient) -> None:
    total = row.get(variable, 0) + value
    if not total:
        row.pop(variable, None)
    # A fraction that has become whole goes back to int, or all that follows would be computed in fractions.
    elif isinstance(total, int) or total.denominator != 1:
        row[variable] = total
    else:
        row[variable] = total.numerator
