"""Masks whose number is a tensor of the model: ``where(mask, scores, torch.tensor(-1e9))`` puts in a known number."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.held_numbers import Held
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.program import Instruction, Program

__all__ = ["KnownMasks", "with_known_masks"]


@dataclass(frozen=True)
class KnownMasks:
    """A program in which masks tell the numbers that they put in, and the buffers that hold these numbers."""

    program: Program
    buffers: frozenset[str]


@naming_the_operation
def with_known_masks(program: Program, held: Held) -> KnownMasks:
    """A choice between a tensor and one number as a mask with this number; the program computes the same."""
    tape, buffers = Tape(program.size()), set[str]()
    for instruction in program.instructions:
        now = tape.resolved(instruction)
        found = _filled(now, held) or _chosen(now, held)
        if found is not None:
            now, names = found
            buffers |= names
        tape.keep(now)
    return KnownMasks(tape.program(program), frozenset(buffers))


def _chosen(instruction: Instruction, held: Held) -> tuple[Instruction, frozenset[str]] | None:
    """A choice by a mask between a tensor that moves and one number that does not."""
    primitive, operands = instruction.primitive, instruction.operands
    if not isinstance(primitive, p.Select) or sum(x.depends for x in operands) != 1:
        return None
    place = 0 if operands[1].depends else 1
    number = _number(held.entries(operands[place]))
    if number is None:
        return None
    function = None if primitive.function is None else _with_number(primitive.function, place, number)
    mask = p.Mask(number, primitive.shape, function, primitive.mask)
    names = held.names([operands[place].index])
    return replace(instruction, primitive=mask, operands=(operands[1 - place],)), names


def _with_number(choice: Function, place: int, number: float) -> Function:
    """The choice as a function of the other tensor alone."""

    def applied(x: Tensor, *data: Tensor) -> Tensor:
        filling = torch.tensor(number, dtype=x.dtype, device=x.device)
        out: Tensor = choice.apply(*((filling, x) if place == 0 else (x, filling)), *data)
        return out

    return Function(choice.name, applied, choice.data, (choice.settings, place, number))


def _filled(instruction: Instruction, held: Held) -> tuple[Instruction, frozenset[str]] | None:
    """A mask of which the number is the last of the tensors that it reads."""
    primitive = instruction.primitive
    if not isinstance(primitive, p.Mask) or primitive.number == primitive.number or primitive.function is None:
        return None
    name = primitive.function.data[-1:]
    tensor = held.named(name[0]) if len(primitive.function.data) == 2 else None
    number = None if tensor is None else _number(tensor.double().numpy())
    if number is None:
        return None
    return replace(instruction, primitive=replace(primitive, number=number)), held.behind(name)


def _number(entries: np.ndarray | None) -> float | None:
    """The number that all entries are."""
    if entries is None or not entries.size or not (entries == entries.flat[0]).all():
        return None
    return float(entries.flat[0])
