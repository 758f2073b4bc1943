"""Tensors made in parts: what is put together and taken apart again, and what was computed part by part.

Entries taken of a concatenation are entries of its parts. A concatenation of which every part is the same function of
other entries of the same tensors is that function of the whole: [f(x₁), f(x₂)] = f(x) for f that keeps entries along
the dimension apart. And a sum of tensors of which each is zero where the others are not is a concatenation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.passes.joining.joined_parts import Parts, joined
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.passes.zeros.known_zeros import Zeros, known_zeros
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.index import Places
from neuralmechanics.symmetry.program.attributes.views import Permute, Reshape, Take, dimension_groups
from neuralmechanics.symmetry.program.program import Instruction, Location, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["with_whole_tensors"]


@naming_the_operation
def with_whole_tensors(program: Program) -> Program:
    """The program in which no tensor is put together of parts that need not be apart; it computes the same."""
    if not any(isinstance(i.primitive, (p.Concatenate, p.Pad, p.Gather)) for i in program.instructions):
        return program
    writer = _Writer(Tape(program.size()), known_zeros(program), Parts.of(program))
    for instruction in program.instructions:
        writer.write(instruction)
    return without_dead_values(writer.tape.program(program)) if writer.changed else program


@dataclass(eq=False)
class _Writer:
    tape: Tape
    zeros: Mapping[int, Zeros]
    parts: Parts
    changed: bool = False

    def write(self, instruction: Instruction) -> None:
        """The instruction, or what it amounts to."""
        held = self.tape.resolved(instruction)
        value = self._instead(instruction, held)
        if value is None or held.result is None:
            self.tape.keep(held)
            return
        self.tape.put(held.result, value)
        self.changed = True

    def _instead(self, instruction: Instruction, held: Instruction) -> Value | None:
        primitive, result = held.primitive, held.result
        if result is None or not result.depends:
            return None
        if isinstance(primitive, p.Rearrange) and isinstance(primitive.view, Take):
            return self._taken(held.cause, held.operands[0], primitive.view)
        if isinstance(primitive, p.Concatenate):
            return joined(self.tape, self.parts, held)
        return self._side_by_side(instruction, held) if isinstance(primitive, p.Add) else None

    # --- entries of concatenations --------------------------------------------------------------------------------

    def _taken(self, cause: Location, x: Value, take: Take) -> Value | None:
        """Entries of what x is put together of; None where it is not."""
        maker = self.tape.made.get(x.index)
        if maker is None:
            return None
        primitive, before = maker.primitive, maker.operands
        if isinstance(primitive, p.Concatenate) and primitive.dim % len(x.shape) == take.dim:
            return self._of_parts(cause, before, take)
        if isinstance(primitive, p.Pad) and primitive.dim % len(x.shape) == take.dim:
            inside = tuple(k - primitive.before for k in take.positions)
            within = all(0 <= k < before[0].shape[take.dim] for k in inside)
            return self._of(cause, before[0], Take(take.dim, inside)) if within else None
        if isinstance(primitive, p.Gather) and primitive.dim == take.dim and len(primitive.index_shape) == 1:
            return self._of_picked(cause, before[0], primitive, take)
        view = primitive.view if isinstance(primitive, p.Rearrange) else None
        if isinstance(view, Permute):
            inner = self._taken(cause, before[0], Take(view.order[take.dim], take.positions))
            return None if inner is None else self.tape.new(cause, p.Rearrange(view), inner)
        if isinstance(view, Reshape):
            return self._before_reshape(cause, before[0], view, take)
        return None

    def _of(self, cause: Location, x: Value, take: Take) -> Value:
        """Entries of x, further back where they can be had there; x where they are all."""
        if take.positions == tuple(range(x.shape[take.dim])):
            return x
        inner = self._taken(cause, x, take)
        return self.tape.new(cause, p.Rearrange(take), x) if inner is None else inner

    def _of_parts(self, cause: Location, parts: Sequence[Value], take: Take) -> Value | None:
        """Entries of those parts that hold them; None where every part holds some."""
        starts = list(accumulate((part.shape[take.dim] for part in parts), initial=0))
        owners = [max(k for k, start in enumerate(starts[:-1]) if start <= n) for n in take.positions]
        owned = zip(owners, take.positions, strict=True)
        runs = [(k, [n - starts[k] for _, n in group]) for k, group in groupby(owned, key=lambda pair: pair[0])]
        # Nothing is saved where every part is still needed, nor where runs go to and fro between parts.
        if len(set(owners)) == len(parts) or len(runs) > len(set(owners)):
            return None
        pieces = [self._of(cause, parts[k], Take(take.dim, tuple(places))) for k, places in runs]
        return pieces[0] if len(pieces) == 1 else self.tape.new(cause, p.Concatenate(take.dim), *pieces)

    def _of_picked(self, cause: Location, x: Value, gather: p.Gather, take: Take) -> Value | None:
        """Entries of those that an index picks, where it is known which these are."""
        places = gather.index.how.first if isinstance(gather.index.how, Places) else ()
        # Only the first places are known: behind them the data may name any entry.
        if any(k >= len(places) for k in take.positions):
            return None
        return self._of(cause, x, Take(take.dim, tuple(places[k] for k in take.positions)))

    def _before_reshape(self, cause: Location, x: Value, view: Reshape, take: Take) -> Value | None:
        """The entries taken before a reshape that leaves their dimension as it is."""
        for inside, outside in dimension_groups(x.shape, view.shape):
            wide = [d for d in inside if x.shape[d] > 1] or inside[:1]
            after = [d for d in outside if view.shape[d] > 1] or outside[:1]
            if take.dim in outside and len(wide) == len(after) == 1 and after[0] == take.dim:
                inner = self._taken(cause, x, Take(wide[0], take.positions))
                shape = (*view.shape[: take.dim], len(take.positions), *view.shape[take.dim + 1 :])
                return None if inner is None else self.tape.new(cause, p.Rearrange(Reshape(shape)), inner)
        return None

    # --- sums of what stands side by side -------------------------------------------------------------------------

    def _side_by_side(self, instruction: Instruction, held: Instruction) -> Value | None:
        """x + y where along a dimension one is zero wherever the other is not."""
        primitive, result = held.primitive, held.result
        if not isinstance(primitive, p.Add) or result is None or any(x.shape != result.shape for x in held.operands):
            return None
        # Zeros were found before anything was written anew, so they are asked for by the values of that program.
        one, other = (self.zeros.get(x.index, {}) for x in instruction.operands)
        for dim, size in enumerate(result.shape):
            left, right = one.get(dim, frozenset()), other.get(dim, frozenset())
            if not left or not right or len(left | right) < size:
                continue
            x, y = held.operands
            y = y if primitive.scale == 1 else self.tape.new(held.cause, p.Scale(primitive.scale), y)
            runs = [(second, tuple(run)) for second, run in groupby(range(size), key=lambda k: k in left)]
            pieces = [self._of(held.cause, y if second else x, Take(dim, run)) for second, run in runs]
            return pieces[0] if len(pieces) == 1 else self.tape.new(held.cause, p.Concatenate(dim), *pieces)
        return None
