"""Parameters times numbers of the model of which some are zero: pruned weights, masks of autoregressive layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.held_numbers import Held
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["ZeroFactors", "with_zero_factors"]


@dataclass(frozen=True, eq=False)
class ZeroFactors:
    """A program in which products say where a factor is zero; by parameter, the buffers that these are made of.

    ``ending``: the buffers of which a whole slice is zero, so that nothing passes there.
    """

    program: Program
    buffers: Mapping[str, set[str]] = field(default_factory=dict)
    ending: frozenset[str] = frozenset()


@naming_the_operation
def with_zero_factors(program: Program, held: Held) -> ZeroFactors:
    """The program with parameters restricted to what they are multiplied with; it computes the same.

    A factor whose entries are known is no longer one of which some may be zero.
    """
    makers, readers = program.makers(), program.readers()
    out: list[Instruction] = []
    buffers: dict[str, set[str]] = {}
    ending: set[str] = set()
    values, known = program.size(), set[int]()
    for instruction in program.instructions:
        found = _masked(instruction, makers, held)
        if found is None:
            out.append(instruction)
            continue
        weight, kept = found.weight, found.kept
        # In a product entry by entry the zeros are said of the weight now; elsewhere they would still be unknown.
        if found.factor is not None and all(isinstance(r.primitive, p.Multiply) for r in readers[found.factor.index]):
            known.add(found.factor.index)
        if kept.all():
            out.append(instruction)
            continue
        buffers.setdefault(found.parameter, set()).update(found.names)
        ending |= found.names if _whole_slices(kept) else set()
        less = replace(weight, index=values)
        values += 1
        out.append(replace(instruction, primitive=p.Restrict(kept), operands=(weight,), result=less))
        operands = tuple(less if x is weight else x for x in instruction.operands)
        out.append(replace(instruction, operands=operands))
    restricted = replace(program, instructions=tuple(out), numbers=program.numbers - known)
    return ZeroFactors(restricted, buffers, frozenset(ending))


def _whole_slices(kept: np.ndarray) -> bool:
    """Whether nothing is kept at some place along a dimension."""
    others = (tuple(k for k in range(kept.ndim) if k != d) for d in range(kept.ndim))
    return any(not kept.any(axis=rest).all() for rest in others)


@dataclass(frozen=True, eq=False)
class _Masked:
    """A parameter's value, the entries of it that enter a product, the factor, and what this is made of."""

    parameter: str
    weight: Value
    kept: np.ndarray
    factor: Value | None
    names: frozenset[str]


def _masked(instruction: Instruction, makers: dict[int, Instruction], held: Held) -> _Masked | None:
    """The product of a parameter and numbers of the model that an instruction is; None where it is none."""
    primitive, operands, result = instruction.primitive, instruction.operands, instruction.result
    if not isinstance(primitive, (p.Multiply, p.Contract, p.Mask, p.Select)) or result is None:
        return None
    # The parameter first, on whichever side of the product it was written.
    weight, *others = sorted(operands, key=lambda x: not x.depends)
    name = _parameter(weight, makers)
    if not name or result.shape != weight.shape or any(x.depends for x in others):
        return None
    if isinstance(primitive, (p.Mask, p.Select)):
        return _picked(primitive, _Masked(name, weight, np.ones(weight.shape, bool), None, frozenset()), others, held)
    elementwise = isinstance(primitive, p.Multiply) or primitive.how.x == primitive.how.y == primitive.how.out
    entries = held.entries(others[0]) if elementwise and primitive.function is None else None
    if entries is None:
        return None
    return _Masked(name, weight, np.broadcast_to(entries != 0, weight.shape), others[0], held.names([others[0].index]))


def _picked(primitive: p.Mask | p.Select, found: _Masked, others: Sequence[Value], held: Held) -> _Masked | None:
    """The same for zeros that stand where a mask of the model holds, or does not, or at places that the code says."""
    function = primitive.function
    zero = primitive.number == 0 if isinstance(primitive, p.Mask) else others[0].constant_number() == 0
    masks = [held.named(name) for name in function.data] if function is not None and zero else []
    by_place = isinstance(primitive, p.Mask) and primitive.by_place
    if function is None or not (masks or by_place) or any(mask is None for mask in masks):
        return None
    # Ones in the parameter's place: where they are left, its entries are.
    ones = torch.ones(found.weight.shape, dtype=torch.float64)
    zeros = [torch.zeros(x.shape, dtype=torch.float64) for x in others]
    operands = [ones, *zeros]
    kept = function.apply(*operands, *masks)
    return replace(found, kept=np.asarray(kept != 0), names=held.behind(function.data))


def _parameter(value: Value, makers: dict[int, Instruction]) -> str:
    """The parameter that a value is, rearranged or not."""
    while isinstance((maker := makers[value.index]).primitive, p.Rearrange):
        value = maker.operands[0]
    return maker.primitive.name if isinstance(maker.primitive, p.Parameter) else ""
