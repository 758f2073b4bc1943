"""Faults of passes: which instruction of the program was at hand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from traceback import walk_tb
from typing import Concatenate, ParamSpec, TypeVar

from neuralmechanics.symmetry.program.program import Instruction, Location, Program
from neuralmechanics.symmetry.program.refusals import PassError, fault

__all__ = ["naming_the_operation"]

P = ParamSpec("P")
R = TypeVar("R")


def naming_the_operation(of_program: Callable[Concatenate[Program, P], R]) -> Callable[Concatenate[Program, P], R]:
    """The pass, of which every error is a ``PassError`` that names the operation and its place in the model."""

    @functools.wraps(of_program)
    def run(program: Program, /, *others: P.args, **settings: P.kwargs) -> R:
        try:
            return of_program(program, *others, **settings)
        # A pass inside this one has named its operation already.
        except PassError:
            raise
        except Exception as error:
            where = _at_hand(error)
            text = fault(where or "no operation in particular", f"the pass {of_program.__name__}", error)
            raise PassError(text) from error

    return run


def _at_hand(error: Exception) -> Location | None:
    """Where the instruction comes from that the innermost function held which held one.

    A pass looks at instructions in orders of its own: what it was at is what its functions have in hand.
    """
    held = [
        value
        for frame, _ in walk_tb(error.__traceback__)
        for value in frame.f_locals.values()
        if isinstance(value, Instruction)
    ]
    return held[-1].cause if held else None
