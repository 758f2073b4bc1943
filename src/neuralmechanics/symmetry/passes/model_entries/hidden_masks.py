"""Entries that a mask replaces and a later mask replaces again: the first replacement is seen by nobody.

A bias by distance is often set to zero where there is no distance, and the same scores are hidden before the softmax.
"""

from __future__ import annotations

import numpy as np
import torch

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.held_numbers import Held
from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["without_hidden_masks"]

_HIDING = -1e4  # numbers below stand for minus infinity: a mask by them is never seen as a number


@naming_the_operation
def without_hidden_masks(program: Program, held: Held) -> Program:
    """The program without masks of which every replaced entry is replaced again; its outputs are the same."""
    sight = _Sight(program, held)
    hidden: dict[int, Value] = {}
    for instruction in program.instructions:
        masked = sight.masked(instruction)
        if masked is None or instruction.result is None:
            continue
        behind = sight.hidden(instruction.result)  # first, for little is hidden behind most products
        own = None if behind is None else sight.replaced(instruction)
        if own is not None and behind is not None and bool((behind | ~own).all()):
            hidden[instruction.result.index] = masked
    if not hidden:
        return program
    tape = Tape(program.size())
    for instruction in program.instructions:
        now, result = tape.resolved(instruction), instruction.result
        if result is None or result.index not in hidden:
            tape.keep(now)
            continue
        x = now.operands[instruction.operands.index(hidden[result.index])]
        tape.put(result, x if x.shape == result.shape else tape.new(now.cause, p.Rearrange(Expand(result.shape)), x))
    return tape.program(program)


class _Sight:
    """Which entries of a value no output depends on, as far as masks that the model's code holds tell."""

    def __init__(self, program: Program, held: Held) -> None:
        self._readers = program.readers()
        self._makers = program.makers()
        self._held = held
        self._found: dict[int, np.ndarray | None] = {}

    def masked(self, instruction: Instruction) -> Value | None:
        """What a mask puts numbers in, or zeros by a product with ones and zeros; None where none of both is meant."""
        primitive, operands = instruction.primitive, instruction.operands
        if isinstance(primitive, p.Mask) and primitive.number > _HIDING:
            return operands[0] if operands[0].depends else None
        if not isinstance(primitive, p.Multiply) or primitive.function is not None:
            return None
        moved = [x for x in operands if x.depends]
        return moved[0] if len(moved) == 1 else None

    def replaced(self, mask: Instruction) -> np.ndarray | None:
        """The entries of its result that a mask puts its number in; None where they are not known."""
        if isinstance(mask.primitive, p.Multiply):
            (factor,) = (x for x in mask.operands if not x.depends)
            entries = self._entries(factor)
            ones = entries is not None and mask.result is not None and bool(np.isin(entries, (0.0, 1.0)).all())
            if entries is None or mask.result is None or not ones or entries.all():
                return None
            zeros: np.ndarray = entries == 0
            return zeros.reshape((1,) * (len(mask.result.shape) - entries.ndim) + entries.shape)
        function = mask.primitive.function if isinstance(mask.primitive, p.Mask) else None
        tensors = [] if function is None else [self._held.named(name) for name in function.data]
        if function is None or mask.result is None or any(t is None for t in tensors):
            return None
        if self._held.behind(function.data):  # buffers may hold other values another time
            return None
        sizes = np.broadcast_shapes(*(tuple(t.shape) for t in tensors if t is not None)) if tensors else ()
        # Where the mask does not differ, one entry stands for all: masks of many heads are as small as one.
        own = mask.operands[0].shape
        if tensors and len(sizes) <= len(own):
            front = len(own) - len(sizes)
            own = tuple(1 if d < front or sizes[d - front] == 1 else n for d, n in enumerate(own))
        left = function.apply(torch.full(own, torch.nan, dtype=torch.float64), *tensors).isnan()
        return ~np.asarray(left)

    def _entries(self, value: Value) -> np.ndarray | None:
        """The entries of a value that the model's code alone makes."""
        return None if self._held.names([value.index]) else self._held.entries(value)

    def _buried(self, added: Instruction, value: Value) -> np.ndarray | None:
        """Entries of a sum in which the other summand is, or stands for, minus infinity."""
        others = [x for x in added.operands if x is not value]
        found = self._infinite(others[0]) if len(others) == 1 else None
        if found is None or added.result is None or (found.ndim and bool(found.all(axis=-1).any())):
            return None  # of a row that is hidden as a whole a softmax may see what stands beside the large numbers
        return found.reshape((1,) * (len(added.result.shape) - found.ndim) + found.shape)

    def _infinite(self, value: Value) -> np.ndarray | None:
        """Entries that are, or stand for, minus infinity, as far as masks and numbers of the code tell."""
        if not value.depends:
            entries = self._entries(value)
            return None if entries is None else entries <= _HIDING
        maker = self._makers[value.index]
        if isinstance(maker.primitive, p.Mask) and maker.primitive.number <= _HIDING:
            return self.replaced(maker)
        if isinstance(maker.primitive, p.Add) and maker.primitive.scale > 0:
            found: np.ndarray | None = None
            for x in maker.operands:
                part = self._infinite(x)
                found = part if found is None else found if part is None else found | part
            return found
        return None

    def hidden(self, value: Value | None) -> np.ndarray | None:
        """Entries of which no reader's result depends; None where one reads them in a way that is not followed."""
        if value is None:
            return None
        if value.index not in self._found:
            self._found[value.index] = None
            whole: np.ndarray | None = None
            for reader in self._readers.get(value.index, ()):
                one = self._through(reader, value)
                if one is None:
                    return None
                whole = one if whole is None else whole & one
            self._found[value.index] = whole
        return self._found[value.index]

    def _through(self, reader: Instruction, value: Value) -> np.ndarray | None:
        """The same for one reader."""
        primitive, result = reader.primitive, reader.result
        if result is None or not value.shape:
            return None
        if isinstance(primitive, p.Mask):
            replaced, later = self.replaced(reader), self.hidden(result)
            if replaced is None:
                return None
            both = replaced if later is None else replaced | later
            return both if len(result.shape) == len(value.shape) else None
        if not isinstance(primitive, (p.Add, p.Scale, p.AddNumber, p.Multiply, p.Rearrange)):
            return None
        later = self.hidden(result)
        buried = self._buried(reader, value) if isinstance(primitive, p.Add) and primitive.scale > 0 else None
        later = buried if later is None else later if buried is None else later | buried
        if later is None:
            return None
        if isinstance(primitive, p.Rearrange):
            return _before(primitive, later, value)
        front = later.ndim - len(value.shape)
        wide = [d for d in range(later.ndim) if d < front or (value.shape[d - front] == 1 and result.shape[d] > 1)]
        # An entry that is repeated is hidden where all its copies are.
        alike = np.asarray(later.all(axis=tuple(wide), keepdims=True))
        return alike.reshape(alike.shape[front:])


def _before(moved: p.Rearrange, later: np.ndarray, value: Value) -> np.ndarray | None:
    """Hidden entries of a rearranged value as entries of what it was; each dimension has all entries or one."""
    view = moved.view
    if isinstance(view, Permute):
        return later.transpose([view.order.index(d) for d in range(len(view.order))])
    if isinstance(view, Reshape):
        wide = [n for n in value.shape if n > 1]
        if wide != [n for n in view.shape if n > 1]:
            return None
        sizes = iter(n for n, m in zip(later.shape, view.shape, strict=True) if m > 1)
        return later.reshape([next(sizes) if n > 1 else 1 for n in value.shape])
    return None
