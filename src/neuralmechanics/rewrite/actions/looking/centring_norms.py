"""What writes into a norm that subtracts the mean, and whether such norms alone read what is written.

A value with channels along dimension d is followed through the program: forwards, what becomes of δ·1, the same number
added to all channels; backwards, which parameters the channels come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take, View, dimension_groups
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["CentringNorm", "centring_norms", "moved"]

Axis = tuple[str, int]


@dataclass(frozen=True)
class CentringNorm:
    """A norm, the dimensions of parameters along which its channels stand, and what stops it (empty: nothing).

    Without a reason the mean over these dimensions may be taken off the parameters, and the norm then has none to
    subtract.
    """

    place: str
    writers: tuple[Axis, ...]
    reason: str = ""


def centring_norms(program: Program) -> tuple[CentringNorm, ...]:
    """All norms that subtract the mean over one dimension, in the order of the program."""
    walk = _Walk(program)
    norms = (i for i in program.instructions if isinstance(i.primitive, p.Normalise) and i.primitive.center)
    return tuple(walk.norm(i) for i in norms if len(i.operands[0].shape) and len(i.primitive.dims) == 1)  # type: ignore[attr-defined]


class _StopError(Exception):
    """A walk has met what ends it; the text says what."""


class _Walk:
    def __init__(self, program: Program) -> None:
        self.makers, self.readers = program.makers(), program.readers()
        self.values = {
            i.primitive.name: i.result
            for i in program.instructions
            if isinstance(i.primitive, p.Parameter) and i.result is not None
        }
        self.known: dict[tuple[int, int], str] = {}

    def norm(self, instruction: Instruction) -> CentringNorm:
        assert isinstance(instruction.primitive, p.Normalise)
        value = instruction.operands[0]
        dim, place = instruction.primitive.dims[0] % len(value.shape), str(instruction.cause)
        try:
            writers = tuple(dict.fromkeys(self.writers(value, dim)))
        except _StopError as stop:
            return CentringNorm(place, (), f"its input is made by {stop}, which no mean can be taken off")
        for name, axis in writers:
            reader = self.seen(self.values[name], axis)
            if reader:
                return CentringNorm(place, writers, f"{reader}, no norm that subtracts the mean, reads {name}")
        return CentringNorm(place, writers)

    # --- forwards: what sees δ·1 --------------------------------------------------------------------------------------

    def seen(self, value: Value, dim: int) -> str:
        """The first operation that tells x + δ·1 along ``dim`` from x; empty where none does."""
        key = (value.index, dim)
        if key not in self.known:
            self.known[key] = next(
                filter(None, (self.read(r, value, dim) for r in self.readers.get(value.index, []))), ""
            )
        return self.known[key]

    def read(self, instruction: Instruction, value: Value, dim: int) -> str:
        primitive, result, cause = instruction.primitive, instruction.result, str(instruction.cause)
        if isinstance(primitive, p.Normalise) and primitive.center:
            return "" if [d % len(value.shape) for d in primitive.dims] == [dim] else cause
        if isinstance(primitive, (p.Unread, p.Pair)) or result is None:
            return "" if isinstance(primitive, (p.Unread, p.Pair)) else cause
        if sum(x is value for x in instruction.operands) != 1:
            return cause
        place = _forwards(instruction, value, dim)
        return cause if place is None else self.seen(result, place)

    # --- backwards: who writes ----------------------------------------------------------------------------------------

    def writers(self, value: Value, dim: int) -> Iterator[Axis]:
        maker = self.makers.get(value.index)
        if maker is None:
            raise _StopError("the data")
        primitive = maker.primitive
        if isinstance(primitive, p.Parameter):
            yield primitive.name, dim
            return
        found = list(_backwards(maker, dim))
        if not found:
            raise _StopError(str(maker.cause) if maker.operands else "the data")
        for operand, place in found:
            yield from self.writers(operand, place)


def _forwards(instruction: Instruction, value: Value, dim: int) -> int | None:
    """Where δ·1 along ``dim`` of an operand stands in the result, still constant along the channels."""
    primitive, result = instruction.primitive, instruction.result
    assert result is not None
    rank = len(value.shape)
    if isinstance(primitive, p.Rearrange):
        return moved(primitive.view, value.shape, result.shape, dim)
    if isinstance(primitive, p.Scale):
        return dim
    if isinstance(primitive, p.AddNumber):
        return dim
    if isinstance(primitive, (p.Add, p.Multiply)):
        (other,) = (x for x in instruction.operands if x is not value)
        after = dim + len(result.shape) - rank
        if result.shape[after] != value.shape[dim]:
            return None
        plain = isinstance(primitive, p.Add) or (primitive.function is None and _size(other, after, result) == 1)
        return after if plain else None
    if isinstance(primitive, p.Contract):
        how = primitive.how
        side, rest = (how.x, how.y) if instruction.operands[0] is value else (how.y, how.x)
        letter = side[dim]
        return how.out.index(letter) if letter in how.out and letter not in rest else None
    if isinstance(primitive, p.Gather):
        return _gathered(primitive, dim)
    return None


def _backwards(instruction: Instruction, dim: int) -> Iterator[tuple[Value, int]]:
    """The operands that channels along ``dim`` of the result come from, all of them linear and without a mean else."""
    primitive, result = instruction.primitive, instruction.result
    assert result is not None
    for value in instruction.operands:
        rank = len(value.shape)
        after = dim - len(result.shape) + rank
        if isinstance(primitive, p.Add):
            if after < 0 or value.shape[after] != result.shape[dim]:
                raise _StopError(str(instruction.cause))
            yield value, after
            continue
        candidates = [d for d in range(rank) if value.shape[d] == result.shape[dim]]
        if isinstance(primitive, (p.Scale, p.Rearrange, p.Multiply, p.Contract, p.Gather)):
            yield from ((value, d) for d in candidates if _forwards(instruction, value, d) == dim)


def _size(value: Value, after: int, result: Value) -> int:
    """The length of an operand along a dimension of the result."""
    d = after - len(result.shape) + len(value.shape)
    return value.shape[d] if d >= 0 else 1


def _gathered(primitive: p.Gather, dim: int) -> int | None:
    if dim == primitive.dim:
        return None
    return dim if dim < primitive.dim else dim + len(primitive.index_shape) - 1


def moved(view: View, before: tuple[int, ...], after: tuple[int, ...], dim: int) -> int | None:
    """Where a whole dimension stands after a rearrangement."""
    if isinstance(view, Permute):
        return view.order.index(dim)
    if isinstance(view, Expand):
        return dim + len(after) - len(before) if before[dim] == after[dim + len(after) - len(before)] else None
    if isinstance(view, Take):
        return dim if view.dim != dim else None
    assert isinstance(view, Reshape)
    for inside, outside in dimension_groups(before, after):
        if dim in inside:
            wide = [d for d in inside if before[d] > 1], [d for d in outside if after[d] > 1]
            return wide[1][0] if wide[0] == [dim] and len(wide[1]) == 1 else None
    return None
