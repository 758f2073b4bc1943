"""Fixed steps that meet every output time exactly, with the error estimated from a second run of three for two."""

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

# Of the two lengths of steps. Longer ones would be cheaper and say nothing where the shorter have not their order yet.
_SHORTER = 2 / 3


def fixed_steps(
    system: System, times: list[float], stepper: Stepper, step: float, guard: Guard, *, estimate_error: bool
) -> Iterator[Visit]:
    """The states at each output time after the first, with their estimated errors.

    The estimate is |x_h - x_k|/(1 - (k/h)^p) in the largest parameter, with shorter steps k = 2h/3: right for smooth
    fields, and where the order drops, on a kinked field or because the steps are long, still a third of the error.
    """
    state = system.initial
    finer: Tensor | None = state if estimate_error else None
    for begin, end in itertools.pairwise(times):
        for piece in system.pieces(begin, end):
            field = guard.watch(piece.field)
            # An even number of steps, three for every two of which the finer run takes.
            stride = 2 if estimate_error else 1
            # Less a trifle: a quotient that rounding put just above a whole number must not cost a further step.
            count = stride * max(1, math.ceil((piece.end - piece.start) / (stride * step) - 1e-9))
            h = (piece.end - piece.start) / count
            for _ in range(count):
                state = guard.accept(stepper.step(field, state, h))
            if finer is not None:
                finer = _finer(field, finer, stepper, _SHORTER * h, 3 * count // 2, guard)
        yield Visit(end, state, _difference(state, finer, system.layout.size, stepper.order, wanted=estimate_error))


def _finer(field: Field, x: Tensor, stepper: Stepper, h: float, count: int, guard: Guard) -> Tensor | None:
    """The run with shorter steps; None once it cannot follow, which ends the estimate and not the integration."""
    try:
        for _ in range(count):
            x = guard.accept(stepper.step(field, x, h))
    except Halt as halt:
        # The cap is the caller's and ends both; a finer run that explodes says nothing of this one.
        if halt.reason is StopReason.EVALUATIONS:
            raise
        return None
    return x


def _difference(state: Tensor, finer: Tensor | None, size: int, order: int, *, wanted: bool) -> float:
    if finer is None:
        return math.inf if wanted else math.nan
    return float((state[:size] - finer[:size]).abs().max()) / (1 - _SHORTER**order)
