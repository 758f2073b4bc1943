"""Constants that are added to parameters on their way: where each may be counted as part of a parameter instead.

A gain 1 + w is w counted from -1: in terms of u = w + 1 there is no sum, and u scales as any gain does. The constant
may be added far behind the parameter (to a part of what a layer with a bias makes of a condition, to the rows
that an index picks): it is traced back through what is linear to parameters that could hold it, and each of them is
tried by moving it and following the move forward, where nothing but such sums may see it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.moved_constants import (
    Held,
    Moves,
    added_constant,
    before,
    before_sum,
    combinations,
    shown,
)
from neuralmechanics.symmetry.passes.rewriting.factored_sums import common_factors, factored
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Expand, squeezed
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["Offsets", "without_constant_offsets"]

_TRIED = 32  # ways to hold one constant that are looked at
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Offsets:
    """A program in terms of θ + c instead of θ, and c by parameter, with one entry along dimensions where it is even.

    ``made_of``: for each of these parameters, the values that its c is made of, numbers apart.
    """

    program: Program
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    made_of: dict[str, set[int]] = field(default_factory=dict)


@naming_the_operation
def without_constant_offsets(program: Program, held: Held) -> Offsets:
    """The program with as many added constants as possible taken into parameters.

    ``held``: the entries of a value that is made of the model's own numbers. A sum x + x·w is x·(1 + w) where that
    helps.
    """
    found = common_factors(program)
    if found:
        trial, factors = factored(program, found)
        helped = _absorbed(trial, held).sums_dropped()
        useful = [one for index, one in factors.items() if index in helped]
        program = factored(program, useful)[0] if useful else program
    absorption = _absorbed(program, held)
    if not absorption.dropped:
        return Offsets(program)
    constants = {n: squeezed(c) for n, c in absorption.constants.items() if c.any()}
    return Offsets(absorption.rewritten(), constants, absorption.made_of)


def _absorbed(program: Program, held: Held) -> _Absorption:
    absorption = _Absorption(program, held)
    absorption.run()
    return absorption


@dataclass(eq=False)
class _Absorption:
    program: Program
    held: Held
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)  # sums whose constant a parameter holds now
    made_of: dict[str, set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._makers = self.program.makers()
        self._readers: dict[int, list[int]] = {}
        for number, instruction in enumerate(self.program.instructions):
            for index in {x.index for x in instruction.operands}:
                self._readers.setdefault(index, []).append(number)
        self._parameters = {
            i.primitive.name: i.result
            for i in self.program.instructions
            if isinstance(i.primitive, p.Parameter) and i.result is not None
        }

    def run(self) -> None:
        for number, instruction in enumerate(self.program.instructions):
            added = added_constant(instruction, self.held)
            if added is None or number in self.dropped:
                continue
            place, factor, constant = added
            wanted = before_sum(instruction, place, constant / factor)
            if wanted is None:
                continue
            for moves in islice(self._holders(instruction.operands[place], wanted), _TRIED):
                ended = self._followed(moves)
                # The move must end in this very sum, or the constant would still be added here.
                if ended is not None and number in ended:
                    self.dropped |= ended
                    self._hold(moves, ended)
                    break

    def sums_dropped(self) -> set[int]:
        """The results of the sums whose constant a parameter holds now."""
        results = (self.program.instructions[number].result for number in self.dropped)
        return {result.index for result in results if result is not None}

    def _hold(self, moves: dict[str, np.ndarray], ended: set[int]) -> None:
        operands = [x for number in ended for x in self.program.instructions[number].operands]
        summands = {x.index for x in operands if not x.depends and x.number is None}
        for name, move in moves.items():
            self.constants[name] = self.constants[name] + move if name in self.constants else move
            self.made_of.setdefault(name, set()).update(summands)

    # --- back to parameters -------------------------------------------------------------------------------------

    def _holders(self, value: Value, wanted: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        """Constants on parameters that may show as ``wanted`` in the value."""
        if not value.depends or not np.isfinite(wanted).all():
            return
        maker = self._makers[value.index]
        if isinstance(maker.primitive, p.Parameter):
            yield {maker.primitive.name: wanted}
            return
        for moves in before(maker, wanted, self.held):
            yield from combinations([self._holders(maker.operands[k], c) for k, c in moves.items()])

    # --- forward to all that sees them --------------------------------------------------------------------------

    def _followed(self, constants: dict[str, np.ndarray]) -> set[int] | None:
        """The sums that the constants end in, if they end in such sums alone: there they are no longer to be added."""
        seen: dict[int, np.ndarray] = {self._parameters[name].index: c for name, c in constants.items()}
        waiting = sorted({n for index in seen for n in self._readers.get(index, ())})
        known, ended = set(waiting), set()
        while waiting:
            # In the order of the program: by the time of a sum or product all its operands that move are known.
            number = heapq.heappop(waiting)
            instruction = self.program.instructions[number]
            moves: Moves = {k: seen[x.index] for k, x in enumerate(instruction.operands) if x.index in seen}
            shows = shown(instruction, moves, self.held)
            # Something that does not take constants apart sees the move: the loss would change.
            if shows is None:
                return None
            if self._ends(number, instruction, shows):
                # Behind this sum nothing moves: with the constant in the parameter or added here it gives the same.
                ended.add(number)
                continue
            if not shows.any() or instruction.result is None:
                continue
            seen[instruction.result.index] = shows
            for reader in self._readers.get(instruction.result.index, ()):
                if reader not in known:
                    known.add(reader)
                    heapq.heappush(waiting, reader)
        return ended

    def _ends(self, number: int, instruction: Instruction, shows: np.ndarray) -> bool:
        """Whether what shows in the result is what the operation adds, and may hence be added there no more."""
        added = None if number in self.dropped else added_constant(instruction, self.held)
        return added is not None and np.allclose(shows, added[2], rtol=_ROUNDING, atol=0)

    # --- the program in terms of what is held -------------------------------------------------------------------

    def rewritten(self) -> Program:
        """The program without the sums that have been dropped."""
        stands: dict[int, Value] = {}
        out: list[Instruction] = []
        values = self.program.size()
        for number, instruction in enumerate(self.program.instructions):
            operands = tuple(stands.get(x.index, x) for x in instruction.operands)
            added = added_constant(instruction, self.held) if number in self.dropped else None
            if added is None or instruction.result is None:
                out.append(replace(instruction, operands=operands))
                continue
            held, shape = operands[added[0]], instruction.result.shape
            if added[1] != 1:
                scaled = Value(values, held.shape, True)
                values += 1
                out.append(replace(instruction, primitive=p.Scale(added[1]), operands=(held,), result=scaled))
                held = scaled
            if held.shape == shape:
                stands[instruction.result.index] = held
            else:
                out.append(replace(instruction, primitive=p.Rearrange(Expand(shape)), operands=(held,)))
        return replace(self.program, instructions=tuple(out))
