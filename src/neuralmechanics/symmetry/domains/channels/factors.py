"""Factors and signs of channels: linear equations between the exponents with which each parameter is multiplied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from neuralmechanics.symmetry.algebra.elimination import Coefficient, quotient
from neuralmechanics.symmetry.domains.channels.layout import Exponents, Leaf
from neuralmechanics.symmetry.families.breaking import Breaking

__all__ = ["Exponent", "Factors", "independent", "null_space", "sum_of"]

Exponent = dict[int, Coefficient]


def sum_of(first: Exponents, second: Exponents, times: Fraction = Fraction(1)) -> Exponents:
    """first + times·second."""
    total = dict(first)
    for variable, power in second:
        total[variable] = total.get(variable, Fraction(0)) + times * power
    return tuple(sorted((v, p) for v, p in total.items() if p))


@dataclass(eq=False)
class Factors:
    """What must vanish: sums of exponents over the rationals, sums of signs modulo two, by one of their variables.

    The variables of an equation belong to channels that are permuted alike, so that one of them tells whose it is.
    ``breakings``: a constant such as an eps breaks what has a factor there.
    """

    scales: dict[int, list[Exponents]] = field(default_factory=dict)
    signs: dict[int, list[frozenset[int]]] = field(default_factory=dict)
    breakings: list[tuple[Exponents, Breaking]] = field(default_factory=list)
    _broken: dict[int, list[int]] = field(default_factory=dict)  # the numbers of the breakings that a variable enters

    def no_scale(self, *found: Leaf) -> None:
        for leaf in found:
            self._vanishes(leaf.scale)

    def no_sign(self, *found: Leaf) -> None:
        for leaf in found:
            self._is_even(leaf.sign)

    def none(self, *found: Leaf) -> None:
        """Neither factor nor sign."""
        self.no_scale(*found)
        self.no_sign(*found)

    def equal(self, one: Leaf, other: Leaf) -> None:
        """Both are multiplied by the same."""
        # Mostly one tuple that was passed on, which need not be subtracted from itself.
        if one.scale is not other.scale:
            self._vanishes(sum_of(one.scale, other.scale, Fraction(-1)))
        self._is_even(one.sign ^ other.sign)

    def opposite(self, one: Leaf, other: Leaf) -> None:
        """The product is left as it is."""
        self._vanishes(sum_of(one.scale, other.scale))
        self._is_even(one.sign ^ other.sign)

    def _vanishes(self, exponents: Exponents) -> None:
        if exponents:
            self.scales.setdefault(exponents[0][0], []).append(exponents)

    def _is_even(self, sign: frozenset[int]) -> None:
        if sign:
            self.signs.setdefault(next(iter(sign)), []).append(sign)

    def breaks(self, leaf: Leaf, broken_by: Breaking | None) -> None:
        if broken_by is not None and leaf.scale:
            for variable, _ in leaf.scale:
                self._broken.setdefault(variable, []).append(len(self.breakings))
            self.breakings.append((leaf.scale, broken_by))

    def broken_by(self, direction: Mapping[int, Coefficient]) -> tuple[Breaking, ...]:
        """What breaks factors with these exponents."""
        # Only those that a variable of the direction enters: all breakings for all directions would be quadratic.
        met = sorted({number for variable in direction for number in self._broken.get(variable, ())})
        found = (self.breakings[number] for number in met)
        return tuple(dict.fromkeys(by for exponents, by in found if _value(exponents, direction)))

    def directions(self, variables: Sequence[int], modulus: int, zero: Sequence[int] = ()) -> list[Exponent]:
        """A basis of the exponents of these variables that satisfy all equations among them; ``zero``: further zeros.

        ``modulus`` 0: of factors; 2: of signs, whose exponents are 0 and 1.
        """
        rows: list[Exponent] = [{v: 1} for v in zero]
        if modulus:
            rows += [dict.fromkeys(e, 1) for v in variables for e in dict.fromkeys(self.signs.get(v, ()))]
        else:
            rows += [dict(e) for v in variables for e in dict.fromkeys(self.scales.get(v, ()))]
        return null_space(variables, rows, modulus)


def _value(exponents: Exponents, direction: Mapping[int, Coefficient]) -> Coefficient:
    return sum(power * direction.get(v, 0) for v, power in exponents)


def independent(vector: Exponent, others: Sequence[Exponent], modulus: int) -> bool:
    """Whether a vector is no combination of others."""
    columns = [*others, vector]
    equations: dict[int, Exponent] = {}
    for k, column in enumerate(columns):
        for variable, power in column.items():
            if power:
                equations.setdefault(variable, {})[k] = power
    solutions = null_space(range(len(columns)), equations.values(), modulus)
    return not any(found.get(len(others)) for found in solutions)


def null_space(
    variables: Sequence[int], equations: Iterable[Mapping[int, Coefficient]], modulus: int
) -> list[Exponent]:
    """A basis of the solutions, over the rationals (``modulus`` 0) or modulo 2: one vector a free variable.

    >>> null_space([0, 1, 2], [{0: Fraction(1), 2: Fraction(1)}], 0)
    [{0: 1, 2: -1}, {1: 1}]
    """
    solved: dict[int, Exponent] = {}  # variable = Σ of others
    for equation in equations:
        row: Exponent = {}
        for variable, power in equation.items():
            exact = power.numerator if power.denominator == 1 else power
            for v, p in solved.get(variable, {variable: 1}).items():
                row[v] = row.get(v, 0) + exact * p
        row = _reduced(row, modulus)
        if not row:
            continue
        # The latest variable is solved for, so that the earliest stay free.
        lead = max(row)
        factor = row.pop(lead)
        definition = _reduced({v: quotient(-p, factor) for v, p in row.items()}, modulus)
        for v, old in solved.items():
            # Definitions hold free variables alone, so that one round of substitution is enough above.
            if lead in old:
                times = old.pop(lead)
                merged = {k: old.get(k, 0) + times * definition.get(k, 0) for k in {*old, *definition}}
                solved[v] = _reduced(merged, modulus)
        solved[lead] = definition
    free = [v for v in variables if v not in solved]
    return [Exponent({f: 1}) | {v: d[f] for v, d in solved.items() if f in d} for f in free]


def _reduced(row: Mapping[int, Coefficient], modulus: int) -> Exponent:
    if modulus:
        row = {v: p % modulus for v, p in row.items()}
    return {v: p for v, p in row.items() if p}
