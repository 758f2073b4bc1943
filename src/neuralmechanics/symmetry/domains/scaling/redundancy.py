"""Changes of labels that change no tensor's total label, and what is done so that each is fixed exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from neuralmechanics.symmetry.domains.scaling.label import LabelTerm, Origin

__all__ = ["LabelGauges"]


class LabelGauges:
    """Directions in which labels may move together while every tensor's total label stays as it is.

    A parameter with label r_i + c_j has one: (r_i + t) + (c_j - t). Where two parameters meet (c_j + s_j = 0), only the
    combination that keeps the sum remains. A direction is given by the shift of each term's variables, by origin.

    The terms of stacked matrices share a dimension, a_ei + b_eo, so that t may differ along it: a direction has an
    ``extent``, the number of values of t, and is fixed by as many equations.
    """

    def __init__(self) -> None:
        self._directions: dict[int, dict[Origin, Fraction]] = {}
        self._holding: dict[Origin, set[int]] = {}
        self._extents: dict[int, int] = {}
        self._serial = 0
        self._partly = False
        self._unopened = 0  # how many values the closed directions had, less those of the ones opened instead

    def open(self, name: str, extents: Sequence[int], of_closed: bool = False) -> None:
        """The gauges of a label with one more term than ``extents``: what the first gains another loses.

        ``of_closed``: they take the place of a part of what has been closed.
        """
        for position, extent in enumerate(extents, 1):
            self._serial += 1
            self._extents[self._serial] = extent
            self._unopened -= extent * of_closed
            self._write(self._serial, {(name, 0): Fraction(1), (name, position): Fraction(-1)})

    def left_over(self) -> bool:
        """Whether labels may still move in ways that change no total, some of which no equation has fixed."""
        return self._partly or bool(self._directions) or self._unopened != 0

    def close(self, name: str, count: int) -> None:
        """Forgets what moves the terms of a label, for the slices of which others are opened instead."""
        for position in range(count):
            for number in list(self._holding.get((name, position), ())):
                self._unopened += self._extents[number]
                self._write(number, {})

    def is_open(self, name: str, count: int) -> bool:
        """Whether nothing has been fixed yet: as many directions as at the start."""
        return len(set().union(*(self._holding.get((name, k), set()) for k in range(count)))) == count - 1

    def shifts(self, group: Sequence[LabelTerm]) -> dict[int, Fraction]:
        """By how much each direction moves the group's sum, where it does."""
        found: dict[int, Fraction] = {}
        for term in group:
            for number in self._holding.get(term.origin, ()) if term.origin else ():
                shift = self._directions[number][term.origin]  # type: ignore[index]
                found[number] = found.get(number, Fraction(0)) + term.coefficient * shift
        return {number: shift for number, shift in sorted(found.items()) if shift}

    def fixes(
        self, group: Sequence[LabelTerm], kept: frozenset[int], context: Sequence[LabelTerm], equations: int = 1
    ) -> bool:
        """Whether the sum of ``group`` may be taken as zero; uses up one direction when so.

        ``kept``: dimensions along which the sum differs, in so many ``equations``; ``context``: all terms of the
        tensor's label.
        """
        shifts = self.shifts(group)
        for number in shifts:
            moved = [t for t in context if t.origin and number in self._holding.get(t.origin, ())]
            # For the total to stay, a term outside the sum must take up what the sum gives, wherever the sum differs.
            answered = any(all(t is not other for other in group) for t in moved)
            if answered and all(kept <= t.dims() for t in moved):
                self._eliminate(number, shifts, equations)
                return True
        return False

    def spent(self, term: LabelTerm) -> bool:
        """Whether a variable of the term may be taken as zero; uses up one direction when so."""
        shifts = self.shifts([term])
        for number in shifts:
            self._eliminate(number, shifts, 1)
            return True
        return False

    def name(self, group: Sequence[LabelTerm]) -> Origin | None:
        """An origin for a new variable that stands for the sum of ``group``; None where nothing moves it."""
        shifts = self.shifts(group)
        if not shifts:
            return None
        self._serial += 1  # of origins and of directions
        origin = ("", self._serial)
        for number, shift in shifts.items():
            self._write(number, {**self._directions[number], origin: shift})
        return origin

    def _eliminate(self, number: int, shifts: dict[int, Fraction], equations: int) -> None:
        """Keeps the combinations of directions that leave the sum where it is."""
        used, extent = self._directions[number], self._extents[number]
        # Fewer equations than values of t leave some of these open (see ``left_over``).
        self._partly |= equations < extent or any(self._extents[other] != extent for other in shifts)
        for other, shift in shifts.items():
            if other != number:
                total = dict(self._directions[other])
                for origin, value in used.items():
                    # So much of the direction that is used up that this one no longer moves the sum.
                    total[origin] = total.get(origin, Fraction(0)) - value * shift / shifts[number]
                self._write(other, total)
        self._write(number, {})

    def _write(self, number: int, direction: dict[Origin, Fraction]) -> None:
        for origin in self._directions.pop(number, {}):
            self._holding[origin].discard(number)
        direction = {origin: value for origin, value in direction.items() if value}
        if direction:
            self._directions[number] = direction
            for origin in direction:
                self._holding.setdefault(origin, set()).add(number)
