"""The walk for shifts in which later biases take back what linear maps make of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from neuralmechanics.symmetry.domains.shift.answers import Answer
from neuralmechanics.symmetry.domains.shift.domain import Shifts

__all__ = ["absorbed_shifts"]


def absorbed_shifts(
    interpreter: Callable[[Sequence[Answer]], Shifts],
    walk: Callable[[Shifts], None],
    known: Iterable[Answer] = (),
    never: Collection[str] = (),
) -> Shifts:
    """Interpreted until biases that are read in several places have every answer; those of ``never`` give none.

    What one bias answers may meet others further on, which then have to answer, too.
    """
    answers = dict.fromkeys(known)
    while True:
        shifts = interpreter([*answers])
        walk(shifts)
        more = [a for a in shifts.answerable if a.bias not in never and a not in answers]
        if not more:
            return shifts
        answers |= dict.fromkeys(more)
        del shifts  # its variables take much memory
