"""Products with ones in places that an index names: the entries that it picks."""

from __future__ import annotations

from dataclasses import replace

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import INDEX, ONE_HOT, Function
from neuralmechanics.symmetry.program.attributes.index import Index, Places
from neuralmechanics.symmetry.program.attributes.views import Permute, Reshape, Take
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["with_picked_entries"]


@naming_the_operation
def with_picked_entries(program: Program) -> Program:
    """The program with Σ_c onehot(i)_c x_c as entry i of x; it computes the same."""
    makers = program.makers()
    if not any(_function(i) is not None for i in program.instructions):
        return program
    tape = Tape(program.size())
    for instruction in program.instructions:
        held = tape.resolved(instruction)
        value = _picked(tape, held, makers, program.numbers)
        if value is None or held.result is None:
            tape.keep(held)
        else:
            tape.put(held.result, value)
    return tape.program(program)


def _function(instruction: Instruction) -> Function | None:
    """The function of an index that is one in the place that it names, and zero elsewhere."""
    function = instruction.primitive.function if isinstance(instruction.primitive, p.Constant) else None
    return function if function is not None and function.name == ONE_HOT and instruction.operands else None


def _picked(tape: Tape, held: Instruction, makers: dict[int, Instruction], numbers: frozenset[int]) -> Value | None:
    """The entries that a product with a one-hot tensor picks, where it sums over the places alone."""
    primitive = held.primitive
    if not isinstance(primitive, p.Contract) or primitive.function is not None or primitive.how.windows:
        return None
    how = primitive.how
    for k, (ones, own, other) in enumerate(((how.x, held.operands[0], how.y), (how.y, held.operands[1], how.x))):
        maker, x = makers.get(own.index), held.operands[1 - k]
        function = None if maker is None else _function(maker)
        if maker is None or function is None or not x.depends:
            continue
        letter, rest = ones[-1], ones[:-1]
        # The index's own dimensions take the place of the summed one, as they do in a gather.
        left = other.replace(letter, rest)
        if letter in how.out or letter not in other or set(rest) & set(other) or sorted(left) != sorted(how.out):
            continue
        if x.shape[other.index(letter)] != own.shape[-1]:
            continue
        (index,) = maker.operands
        dim, sizes = other.index(letter), own.shape[:-1]
        places = replace(function, name=INDEX, apply=lambda index: index, settings=())
        known = [entry for entry in maker.primitive.computed or () if isinstance(entry, Places)]  # type: ignore[attr-defined]
        # Places that the code itself holds are a slice, whose entries are known one by one; data name any.
        if known:
            taken = tape.new(held.cause, p.Rearrange(Take(dim, known[0].first)), x)
            shape = (*x.shape[:dim], *sizes, *x.shape[dim + 1 :])
            value = tape.new(held.cause, p.Rearrange(Reshape(shape)), taken)
        else:
            gather = p.Gather(dim, sizes, Index((index.index,)), index.index in numbers, places)
            value = tape.new(held.cause, gather, x)
        order = tuple(left.index(one) for one in how.out)
        ordered = order == tuple(range(len(order)))
        return value if ordered else tape.new(held.cause, p.Rearrange(Permute(order)), value)
    return None
