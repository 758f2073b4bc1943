"""The one loop that runs a program through an interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neuralmechanics.symmetry.program.domain import Domain
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.refusals import DomainError, fault

__all__ = ["interpret"]


def interpret(program: Program, domain: Domain[Any], step: Callable[..., Any] | None = None) -> None:
    """Every instruction in turn, by the methods of ``domain``; values that are not read again are let go.

    ``step(instruction, *operands)`` stands between, where an instruction is to be interpreted in another way.

    Raises ``DomainError`` where the interpreter itself fails, naming the operation: a result without the constraints of
    one instruction would be false.
    """
    ends = program.last_uses()
    values: dict[int, Any] = {}
    for number, instruction in enumerate(program.instructions):
        domain.cause, domain.position = instruction.cause.number, number
        out = _applied(instruction, domain, values, step)
        if instruction.result is not None:
            if out is None:
                raise _fault(instruction, domain, "no value where one is needed")
            values[instruction.result.index] = out
        for index in ends.get(number, ()):
            del values[index]


def _applied(
    instruction: Instruction, domain: Domain[Any], values: dict[int, Any], step: Callable[..., Any] | None
) -> Any:
    operands = [values[x.index] for x in instruction.operands]
    try:
        if step is not None:
            return step(instruction, *operands)
        return instruction.primitive.interpreted(domain, *operands)
    except Exception as error:
        raise _fault(instruction, domain, f"{type(error).__name__}: {error}") from error


def _fault(instruction: Instruction, domain: object, told: str) -> DomainError:
    raised = f"{told} on {type(instruction.primitive).__name__}"
    return DomainError(fault(instruction.cause, type(domain).__name__, raised))
