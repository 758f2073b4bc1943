"""Products of exponentials as exponentials of sums: exp(a)·x·exp(b) is x·exp(a + b), whose summands may be shifted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["with_added_exponents"]

_MANY = 16  # more factors than this are rather the steps of a sequence


@naming_the_operation
def with_added_exponents(program: Program) -> Program:
    """The program with one exponential in each product; it computes the same.

    Exponentials, and products of them, that something else reads stay: there would be two labels for one tensor.
    """
    if sum(isinstance(i.primitive, p.Exponential) for i in program.instructions) < 2:
        return program
    readers = {index: len(read) for index, read in program.readers().items()}
    tape, changed = Tape(program.size()), False
    for instruction in program.instructions:
        held = tape.resolved(instruction)
        value = _joined(tape, held, readers)
        if value is None or held.result is None:
            tape.keep(held)
            continue
        tape.put(held.result, value)
        changed = True
    return without_dead_values(tape.program(program)) if changed else program


def _joined(tape: Tape, held: Instruction, readers: Mapping[int, int]) -> Value | None:
    """The product with its exponentials as one; None where it has no two of them."""
    if not _is_product(held) or held.result is None or not held.result.depends:
        return None
    factors = _factors(tape, held.operands, readers)
    exponents = [_exponent(tape, x, readers) for x in factors]
    known = [found for found in exponents if found is not None]
    if len(known) < 2 or len(factors) > _MANY:
        return None
    cause = held.cause
    total: Value | None = None
    for x, steps in known:
        for step in steps:
            x = tape.new(cause, step, x)
        total = x if total is None else tape.new(cause, p.Add(), total, x)
    assert total is not None
    product = tape.new(cause, p.Exponential(), total)
    for x, found in zip(factors, exponents, strict=True):
        product = product if found is not None else tape.new(cause, p.Multiply(), x, product)
    return product if product.shape == held.result.shape else None


def _is_product(step: Instruction) -> bool:
    return isinstance(step.primitive, p.Multiply) and step.primitive.function is None


def _factors(tape: Tape, operands: Sequence[Value], readers: Mapping[int, int]) -> list[Value]:
    """The factors of a product: those of products that nothing else reads are its own."""
    found: list[Value] = []
    for x in operands:
        maker = tape.made.get(x.index)
        if maker is not None and _is_product(maker) and readers.get(x.index, 1) == 1 and len(found) <= _MANY:
            found += _factors(tape, maker.operands, readers)
        else:
            found.append(x)
    return found


def _exponent(tape: Tape, x: Value, readers: Mapping[int, int]) -> tuple[Value, list[p.Primitive]] | None:
    """The exponent of an exponential or of a power of one, rearranged, and what is done to it; None of other values.

    Whole powers alone: the root of a complex exponential need not be the exponential of half.
    """
    steps: list[p.Primitive] = []
    while x.depends and readers.get(x.index, 1) == 1 and (maker := tape.made.get(x.index)) is not None:
        primitive = maker.primitive
        if isinstance(primitive, p.Exponential):
            return maker.operands[0], steps[::-1]
        whole = isinstance(primitive, p.Power) and primitive.function is None and float(primitive.exponent).is_integer()
        if not whole and not isinstance(primitive, p.Rearrange):
            return None
        steps.append(p.Scale(primitive.exponent) if isinstance(primitive, p.Power) else primitive)
        (x,) = maker.operands
    return None
