"""Results that are the same number whatever the parameters are: what they were made of is not read.

The softmax over one entry is one, what a single entry is above its mean is zero, and so is what is multiplied by zeros:
attention over one key, a window of one patch, a branch that is switched off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.passes.zeros.known_zeros import Zeros, known_zeros
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape
from neuralmechanics.symmetry.program.conditions import SingleEntry
from neuralmechanics.symmetry.program.facts import number_of
from neuralmechanics.symmetry.program.program import Instruction, Location, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["with_known_results"]


@naming_the_operation
def with_known_results(program: Program) -> Program:
    """The program with constants for results that no parameter moves; it computes the same.

    >>> from neuralmechanics.symmetry.program.builder import Builder
    >>> d = Builder()
    >>> weights = d.softmax(d.parameter("x", (2, 1)), 1)
    >>> d.fix(d.mul(weights, d.parameter("y", (2, 3))))
    >>> print(with_known_results(d.program()))
    parameter x: [2, 1]
    unread(x, dim=0, positions=[0, 1])
    parameter y: [2, 3]
    nowhere:
      %0: [2, 3] = multiply(1.0 [2, 1], y)  # nothing
      fix(%0)
    """
    zeros, makers = known_zeros(program), program.makers()
    tape, found, conditions = Tape(program.size()), False, set[SingleEntry]()
    for instruction in program.instructions:
        now, result = tape.resolved(instruction), instruction.result
        if result is None or not result.depends or isinstance(now.primitive, p.Parameter):
            tape.keep(now)
            continue
        number = _number(now, result, zeros.get(result.index, {}))
        if number is None and (factor := _lone_factor(tape, now)) is not None:
            tape.put(result, factor)
            found = True
        elif number is not None:
            tape.put(result, tape.new(now.cause, p.Constant(result.shape, number=number)))
            found = True
            if isinstance(now.primitive, (p.Softmax, p.Normalise)):
                conditions.add(SingleEntry(_reaching(instruction, makers), now.cause.place))
        elif any(x.depends for x in now.operands):
            tape.keep(now)
        else:
            tape.put(result, tape.new(now.cause, now.primitive, *now.operands))
    if not found:
        return program
    said = (*program.conditions, *sorted(conditions, key=lambda c: c.place))
    return without_dead_values(replace(tape.program(program), conditions=said))


def _reaching(instruction: Instruction, makers: Mapping[int, Instruction]) -> frozenset[str]:
    """The parameters that an instruction reads, through whatever."""
    names, seen, left = set[str](), set[int](), [x.index for x in instruction.operands]
    while left:
        index = left.pop()
        if index in seen:
            continue
        seen.add(index)
        if isinstance(parameter := makers[index].primitive, p.Parameter):
            names.add(parameter.name)
        left += [x.index for x in makers[index].operands]
    return frozenset(names)


def _number(instruction: Instruction, result: Value, zeros: Zeros) -> float | None:
    """What fills the result; nothing fills one without entries, and zero does as well as anything."""
    whole = any(len(places) == result.shape[dim] for dim, places in zeros.items())
    if whole or math.prod(result.shape) == 0:
        return 0.0
    return number_of(instruction.primitive, instruction.operands)


def _lone_factor(tape: Tape, instruction: Instruction) -> Value | None:
    """A sum of one product with a number as movements of the other factor, a sum with zeros as its other operand.

    None for any other. Attention over one key returns its value, to every query.
    """
    primitive, result = instruction.primitive, instruction.result
    if isinstance(primitive, p.Add) and result is not None:
        return _but_for_zeros(tape, instruction, primitive, result)
    if not isinstance(primitive, p.Contract) or primitive.function is not None or primitive.how.windows:
        return None
    how, (x, y) = primitive.how, instruction.operands
    sizes = how.sizes(x.shape, y.shape)
    if any(n != 1 for letter, n in sizes.items() if letter not in how.out):
        return None
    for (moved, letters), other in (((x, how.x), y), ((y, how.y), x)):
        if moved.depends and not other.depends and other.number is not None:
            spread = _spread(tape, instruction.cause, moved, letters, how, sizes)
            return spread if other.number == 1 else tape.new(instruction.cause, p.Scale(other.number), spread)
    return None


def _spread(
    tape: Tape, cause: Location, moved: Value, letters: str, how: Contraction, sizes: Mapping[str, int]
) -> Value:
    """What one factor is where the result wants it, repeated along the letters that it has not."""
    size = dict(zip(letters, moved.shape, strict=True))
    own = [letter for letter in letters if letter in how.out]
    bare = tape.new(cause, p.Rearrange(Reshape(tuple(size[letter] for letter in own))), moved)
    order = tuple(own.index(letter) for letter in how.out if letter in own)
    turned = tape.new(cause, p.Rearrange(Permute(order)), bare)
    placed = tape.new(cause, p.Rearrange(Reshape(tuple(size.get(letter, 1) for letter in how.out))), turned)
    return tape.new(cause, p.Rearrange(Expand(tuple(sizes[letter] for letter in how.out))), placed)


def _but_for_zeros(tape: Tape, instruction: Instruction, primitive: p.Add, result: Value) -> Value | None:
    """The operand of a sum that is left where the other is zero; None where neither is."""
    x, y = instruction.operands
    rest = x if y.constant_number() == 0 else y if x.constant_number() == 0 else None
    if rest is None or rest.shape != result.shape:
        return None
    return rest if rest is x or primitive.scale == 1 else tape.new(instruction.cause, p.Scale(primitive.scale), rest)
