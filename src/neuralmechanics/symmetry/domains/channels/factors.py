"""Factors and signs of channels: linear equations between the exponents with which each parameter is multiplied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from neuralmechanics.symmetry.domains.channels.layout import Exponents, Leaf
from neuralmechanics.symmetry.families.breaking import Breaking

__all__ = ["Exponent", "Factors", "independent", "null_space", "sum_of"]

Exponent = dict[int, Fraction]


def sum_of(first: Exponents, second: Exponents, times: Fraction = Fraction(1)) -> Exponents:
    """first + times·second."""
    total = dict(first)
    for variable, power in second:
        total[variable] = total.get(variable, Fraction(0)) + times * power
    return tuple(sorted((v, p) for v, p in total.items() if p))


@dataclass(eq=False)
class Factors:
    """What must vanish: sums of exponents over the rationals, sums of signs modulo two.

    ``breakings``: a constant such as an eps breaks what has a factor there.
    """

    scales: list[Exponents] = field(default_factory=list)
    signs: list[frozenset[int]] = field(default_factory=list)
    breakings: list[tuple[Exponents, Breaking]] = field(default_factory=list)

    def no_scale(self, *found: Leaf) -> None:
        self.scales += [leaf.scale for leaf in found if leaf.scale]

    def no_sign(self, *found: Leaf) -> None:
        self.signs += [leaf.sign for leaf in found if leaf.sign]

    def none(self, *found: Leaf) -> None:
        """Neither factor nor sign."""
        self.no_scale(*found)
        self.no_sign(*found)

    def equal(self, one: Leaf, other: Leaf) -> None:
        """Both are multiplied by the same."""
        self.scales.append(sum_of(one.scale, other.scale, Fraction(-1)))
        self.signs.append(one.sign ^ other.sign)

    def opposite(self, one: Leaf, other: Leaf) -> None:
        """The product is left as it is."""
        self.scales.append(sum_of(one.scale, other.scale))
        self.signs.append(one.sign ^ other.sign)

    def breaks(self, leaf: Leaf, broken_by: Breaking | None) -> None:
        if broken_by is not None and leaf.scale:
            self.breakings.append((leaf.scale, broken_by))

    def directions(self, variables: Sequence[int], modulus: int, zero: Sequence[int] = ()) -> list[Exponent]:
        """A basis of the exponents of these variables that satisfy all equations among them; ``zero``: further zeros.

        ``modulus`` 0: of factors; 2: of signs, whose exponents are 0 and 1.
        """
        own = set(variables)
        rows: list[Exponent] = [{v: Fraction(1)} for v in zero]
        if modulus:
            rows += [{v: Fraction(1) for v in e} for e in self.signs if e and next(iter(e)) in own]
        else:
            rows += [dict(e) for e in self.scales if e and e[0][0] in own]
        return null_space(variables, rows, modulus)


def independent(vector: Exponent, others: Sequence[Exponent], modulus: int) -> bool:
    """Whether a vector is no combination of others."""
    places = sorted({v for e in (vector, *others) for v in e})
    columns = [*others, vector]
    equations = [{k: e[v] for k, e in enumerate(columns) if e.get(v)} for v in places]
    solutions = null_space(range(len(columns)), equations, modulus)
    return not any(found.get(len(others)) for found in solutions)


def null_space(variables: Sequence[int], equations: Iterable[Mapping[int, Fraction]], modulus: int) -> list[Exponent]:
    """A basis of the solutions, over the rationals (``modulus`` 0) or modulo 2: one vector a free variable.

    >>> null_space([0, 1, 2], [{0: Fraction(1), 2: Fraction(1)}], 0)
    [{0: Fraction(1, 1), 2: Fraction(-1, 1)}, {1: Fraction(1, 1)}]
    """
    solved: dict[int, dict[int, Fraction]] = {}  # variable = Σ of others
    for equation in equations:
        row: dict[int, Fraction] = {}
        for variable, power in equation.items():
            for v, p in solved.get(variable, {variable: Fraction(1)}).items():
                row[v] = row.get(v, Fraction(0)) + power * p
        row = _reduced(row, modulus)
        if not row:
            continue
        # The latest variable is solved for, so that the earliest stay free.
        lead = max(row)
        factor = row.pop(lead)
        definition = _reduced({v: -p / factor for v, p in row.items()}, modulus)
        for v, old in solved.items():
            if lead in old:
                times = old.pop(lead)
                merged = {
                    k: old.get(k, Fraction(0)) + times * definition.get(k, Fraction(0)) for k in {*old, *definition}
                }
                solved[v] = _reduced(merged, modulus)
        solved[lead] = definition
    free = [v for v in variables if v not in solved]
    return [{f: Fraction(1)} | {v: d[f] for v, d in solved.items() if f in d} for f in free]


def _reduced(row: Mapping[int, Fraction], modulus: int) -> dict[int, Fraction]:
    if modulus:
        row = {v: p % modulus for v, p in row.items()}
    return {v: p for v, p in row.items() if p}
