"""Learning rates that change: constant pieces, each so many steps long."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from neuralmechanics.flows.equation.system import Field, Piece
from neuralmechanics.optimizers.hyperparameters.bounds import require_number, require_positive, require_whole

__all__ = ["Schedule"]


@dataclass(frozen=True)
class Schedule:
    """(steps, learning rate) after (steps, learning rate); the last rate stays for ever.

    >>> schedule = Schedule(((20, 0.5), (10, 0.25)))
    >>> schedule.time(30), schedule.learning_rate(25)
    (12.5, 0.25)
    """

    pieces: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        if not self.pieces:
            raise ValueError("the schedule has no pieces: give ((steps, learning_rate), …)")
        for steps, rate in self.pieces:
            require_positive("learning_rate in the schedule", rate)
            require_whole("the number of steps of a schedule's piece", steps, 1)

    @staticmethod
    def of(learning_rate: float | Sequence[tuple[int, float]] | Schedule) -> Schedule:
        """One rate, pairs or a schedule, as a schedule."""
        if isinstance(learning_rate, Schedule):
            return learning_rate
        if isinstance(learning_rate, list | tuple):
            if not all(isinstance(piece, list | tuple) and len(piece) == 2 for piece in learning_rate):
                raise TypeError(f"learning_rate is {learning_rate!r}; give one number, or pairs (steps, learning rate)")
            return Schedule(tuple((steps, rate) for steps, rate in learning_rate))
        require_number("learning_rate", learning_rate)
        rate = float(learning_rate)  # type: ignore[arg-type]
        require_positive("learning_rate", rate)
        return Schedule(((1, rate),))

    @property
    def constant(self) -> bool:
        """Whether one rate holds throughout."""
        return len({rate for _, rate in self.pieces}) == 1

    @property
    def smallest(self) -> float:
        """The smallest rate: a safe step for an integrator."""
        return min(rate for _, rate in self.pieces)

    def learning_rate(self, step: int) -> float:
        """η of step number ``step``, counted from 0."""
        for steps, rate in self.pieces:
            if step < steps:
                return rate
            step -= steps
        return self.pieces[-1][1]

    def time(self, step: int) -> float:
        """t = Σ η over the first ``step`` steps."""
        total = 0.0
        for steps, rate in self.pieces[:-1]:
            total += min(step, steps) * rate
            step = max(step - steps, 0)
        return total + step * self.pieces[-1][1]

    def fields(self, field_at: Callable[[float], Field]) -> Callable[[float, float], Iterator[Piece]]:
        """Pieces of an equation whose field depends on the learning rate."""
        # Once for each rate, which may come back in several pieces.
        made = {rate: field_at(rate) for _, rate in self.pieces}

        def pieces(start: float, end: float) -> Iterator[Piece]:
            begin = 0.0
            for position, (steps, rate) in enumerate(self.pieces):
                finish = math.inf if position == len(self.pieces) - 1 else begin + steps * rate
                if finish > start and begin < end:
                    yield Piece(max(start, begin), min(end, finish), made[rate])
                begin = finish

        return pieces
