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

__all__ = ["Masked", "ZeroFactors", "masked", "parameter_of", "whole_slices", "with_zero_factors"]


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
        found = masked(instruction, held)
        name = "" if found is None else parameter_of(found.value, makers)
        if found is None or not name or instruction.result is None or instruction.result.shape != found.value.shape:
            out.append(instruction)
            continue
        weight, kept = found.value, np.broadcast_to(found.kept, found.value.shape)
        # In a product entry by entry the zeros are said of the weight now; elsewhere they would still be unknown.
        if found.factor is not None and all(isinstance(r.primitive, p.Multiply) for r in readers[found.factor.index]):
            known.add(found.factor.index)
        if kept.all():
            out.append(instruction)
            continue
        buffers.setdefault(name, set()).update(found.names)
        ending |= found.names if whole_slices(kept) else set()
        less = replace(weight, index=values)
        values += 1
        out.append(replace(instruction, primitive=p.Restrict(kept), operands=(weight,), result=less))
        operands = tuple(less if x is weight else x for x in instruction.operands)
        out.append(replace(instruction, operands=operands))
    restricted = replace(program, instructions=tuple(out), numbers=program.numbers - known)
    return ZeroFactors(restricted, buffers, frozenset(ending))


def whole_slices(kept: np.ndarray) -> bool:
    """Whether nothing is kept at some place along a dimension."""
    others = (tuple(k for k in range(kept.ndim) if k != d) for d in range(kept.ndim))
    return any(not kept.any(axis=rest).all() for rest in others)


@dataclass(frozen=True, eq=False)
class Masked:
    """What is multiplied by the model's own numbers, these, the value that they are, and what it is made of.

    ``entries`` broadcast to the product; ``factor`` is None where a mask chooses between the value (true) and zero.
    """

    value: Value
    entries: np.ndarray
    factor: Value | None
    names: frozenset[str]

    @property
    def kept(self) -> np.ndarray:
        """Where they are not zero."""
        return np.asarray(self.entries != 0)


def masked(instruction: Instruction, held: Held) -> Masked | None:
    """The product of a value and numbers of the model that an instruction is; None where it is none."""
    primitive, operands, result = instruction.primitive, instruction.operands, instruction.result
    if not isinstance(primitive, (p.Multiply, p.Contract, p.Mask, p.Select)) or result is None:
        return None
    # What depends on parameters first, on whichever side of the product it was written.
    value, *others = sorted(operands, key=lambda x: not x.depends)
    if not value.depends or any(x.depends for x in others):
        return None
    if isinstance(primitive, (p.Mask, p.Select)):
        return _picked(primitive, value, others, held) if result.shape == value.shape else None
    factor = others[0]
    entries = held.entries(factor) if primitive.function is None else None
    if entries is not None and isinstance(primitive, p.Contract):
        own, other = (primitive.how.x, primitive.how.y)[:: 1 if operands[0] is value else -1]
        entries = aligned(entries, other, primitive.how.out) if own == primitive.how.out else None
    return None if entries is None else Masked(value, entries, factor, held.names([factor.index]))


def aligned(entries: np.ndarray, letters: str, out: str) -> np.ndarray | None:
    """The entries of a factor as they broadcast to the result; None where some of its letters are summed over."""
    if not set(letters) <= set(out):
        return None
    present = [letter for letter in out if letter in letters]
    turned = entries.transpose([letters.index(letter) for letter in present])
    sizes = dict(zip(present, turned.shape, strict=True))
    return turned.reshape([sizes.get(letter, 1) for letter in out])


def _picked(primitive: p.Mask | p.Select, value: Value, others: Sequence[Value], held: Held) -> Masked | None:
    """The same for zeros that stand where a mask of the model holds, or does not, or at places that the code says."""
    function = primitive.function
    zero = primitive.number == 0 if isinstance(primitive, p.Mask) else others[0].constant_number() == 0
    masks = [held.named(name) for name in function.data] if function is not None and zero else []
    by_place = isinstance(primitive, p.Mask) and primitive.by_place
    if function is None or not (masks or by_place) or any(mask is None for mask in masks):
        return None
    # Ones in the value's place: where they are left, its entries are.
    ones = torch.ones(value.shape, dtype=torch.float64)
    zeros = [torch.zeros(x.shape, dtype=torch.float64) for x in others]
    operands = [ones, *zeros]
    kept = function.apply(*operands, *masks)
    return Masked(value, np.asarray(kept != 0), None, held.behind(function.data))


def parameter_of(value: Value, makers: Mapping[int, Instruction]) -> str:
    """The parameter that a value is, rearranged or not."""
    while isinstance((maker := makers[value.index]).primitive, p.Rearrange):
        value = maker.operands[0]
    return maker.primitive.name if isinstance(maker.primitive, p.Parameter) else ""
