"""Fixed steps that meet every output time exactly, with the error estimated from a second run of half as many."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from torch import Tensor

from neuralmechanics.flows.equation.stop import Halt, StopReason
from neuralmechanics.flows.equation.system import Field, System
from neuralmechanics.flows.integration.guard import Guard
from neuralmechanics.flows.integration.recorder import Visit
from neuralmechanics.flows.integration.steppers import Stepper

__all__ = ["fixed_steps"]


def fixed_steps(
    system: System, times: list[float], stepper: Stepper, step: float, guard: Guard, *, estimate_error: bool
) -> Iterator[Visit]:
    """The states at each output time after the first, with their estimated errors.

    The estimate is |x_h - x_2h|/(2^p - 1) in the largest parameter: right for smooth fields, and for a kinked field,
    where the order drops, still the size of what a shorter step would change.
    """
    fine = system.initial
    coarse: Tensor | None = fine if estimate_error else None
    for begin, end in itertools.pairwise(times):
        for piece in system.pieces(begin, end):
            field = guard.watch(piece.field)
            # An even number of steps lets the coarse run take exactly half as many.
            stride = 2 if estimate_error else 1
            # Less a trifle: a quotient that rounding put just above a whole number must not cost a further step.
            count = stride * max(1, math.ceil((piece.end - piece.start) / (stride * step) - 1e-9))
            h = (piece.end - piece.start) / count
            for _ in range(count):
                fine = guard.accept(stepper.step(field, fine, h))
            if coarse is not None:
                coarse = _coarse(field, coarse, stepper, 2 * h, count // 2, guard)
        yield Visit(end, fine, _difference(fine, coarse, system.layout.size, stepper.order, wanted=estimate_error))


def _coarse(field: Field, x: Tensor, stepper: Stepper, h: float, count: int, guard: Guard) -> Tensor | None:
    """The run with doubled steps; None once it cannot follow, which ends the estimate and not the integration."""
    try:
        for _ in range(count):
            x = guard.accept(stepper.step(field, x, h))
    except Halt as halt:
        # The cap is the caller's and ends both; a coarse run that explodes says nothing of the fine one.
        if halt.reason is StopReason.EVALUATIONS:
            raise
        return None
    return x


def _difference(fine: Tensor, coarse: Tensor | None, size: int, order: int, *, wanted: bool) -> float:
    if coarse is None:
        return math.inf if wanted else math.nan
    return float((fine[:size] - coarse[:size]).abs().max()) / float(2**order - 1)
