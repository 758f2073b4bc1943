"""Entries that are needed: walking back from the outputs, which entries of each operand a result depends on.

Where a head selects the class token, the last block's other tokens are computed and thrown away: what would tie their
labels there ties nothing. An operand whose entries along a dimension are not all needed is replaced by one that repeats
needed ones; the output is the same, and every interpreter then sees only what is read.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.contraction import Window
from neuralmechanics.symmetry.program.attributes.views import Reshape, Take, dimension_groups
from neuralmechanics.symmetry.program.axes import AxisMap, axis_map
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["only_needed_entries"]

Entries = frozenset[int] | None  # None: all
Needed = tuple[Entries, ...]  # for each dimension
Shape = tuple[int, ...]

_WRITTEN_OUT = 1 << 20  # entries up to which dimensions that merge or split are followed


@naming_the_operation
def only_needed_entries(program: Program) -> Program:
    """The program in which every instruction sees needed entries alone, and unneeded ones of parameters are named."""
    parts, leaves = _needed(program)
    writer = _Writer(program.size())
    for number, instruction in enumerate(program.instructions):
        writer.write(instruction, parts.get(number, ()))
        result = instruction.result
        if isinstance(instruction.primitive, p.Parameter) and result is not None:
            for take in _complements(leaves.get(result.index) or (), result.shape):
                unread = p.Unread(instruction.primitive.name, take)
                writer.out.append(Instruction(unread, (), None, instruction.cause))
    return replace(program, instructions=tuple(writer.out))


# --- backward: what is needed ---------------------------------------------------------------------------------------


def _needed(program: Program) -> tuple[dict[int, tuple[Needed, ...]], dict[int, Needed]]:
    """For each instruction, what it reads of each operand; and for each value, what is read of it at all."""
    needed: dict[int, Needed] = {}
    parts: dict[int, tuple[Needed, ...]] = {}
    for number in range(len(program.instructions) - 1, -1, -1):
        instruction = program.instructions[number]
        result = instruction.result
        unread = result is not None and result.index not in needed
        # That channels turn together needs none of them: it is said of whatever others read.
        if unread or isinstance(instruction.primitive, p.Pair):
            continue
        whole: tuple[Needed, ...] = tuple((None,) * len(x.shape) for x in instruction.operands)
        read = whole
        # Of a function that is not followed every operand counts whole, whatever is read of its result.
        if result is not None and not isinstance(instruction.primitive, p.Forget):
            read = _read(instruction, needed[result.index], result.shape)
        for x, part in zip(instruction.operands, read, strict=True):
            needed[x.index] = _joined(needed[x.index], part, x.shape) if x.index in needed else part
        if any(entries is not None for part in read for entries in part):
            parts[number] = read
    return parts, needed


def _joined(left: Needed, right: Needed, shape: Shape) -> Needed:
    unions = (None if a is None or b is None else a | b for a, b in zip(left, right, strict=True))
    return tuple(None if u is not None and len(u) == n else u for u, n in zip(unions, shape, strict=True))


def _read(instruction: Instruction, out: Needed, shape: Shape) -> tuple[Needed, ...]:
    """What of each operand enters the entries ``out`` of the result."""
    primitive, shapes = instruction.primitive, [x.shape for x in instruction.operands]
    # What the map does not follow is needed whole: too much is safe, too little would free what the loss sees.
    read = [[None if d is None else out[d] for d in axes] for axes in axis_map(primitive, shapes, shape)]
    if isinstance(primitive, p.Rearrange) and isinstance(primitive.view, Take):
        view = primitive.view
        kept = out[view.dim]
        chosen = view.positions if kept is None else [view.positions[k] for k in kept]
        read[0][view.dim] = _some(frozenset(chosen), shapes[0][view.dim])
    elif isinstance(primitive, p.Rearrange) and isinstance(primitive.view, Reshape):
        read[0] = _reshaped(shapes[0], shape, out)
    elif isinstance(primitive, p.Concatenate):
        dim, start = primitive.dim % len(shape), 0
        for part, own in zip(read, shapes, strict=True):
            part[dim] = _between(out[dim], start, own[dim])
            start += own[dim]
    elif isinstance(primitive, p.Pad):
        dim = primitive.dim % len(shape)
        read[0][dim] = _between(out[dim], primitive.before, shapes[0][dim])
    elif isinstance(primitive, p.Contract):
        for window in primitive.how.windows:
            x, kernel = primitive.how.x.index(window.x), primitive.how.y.index(window.kernel)
            both = _through_window(window, shapes[0][x], shapes[1][kernel], out[primitive.how.out.index(window.out)])
            read[0][x], read[1][kernel] = both
    return tuple(tuple(part) for part in read)


def _some(entries: frozenset[int], size: int) -> Entries:
    return None if len(entries) == size else entries


def _between(entries: Entries, start: int, size: int) -> Entries:
    """The entries from ``start`` on, counted from there."""
    return None if entries is None else _some(frozenset(k - start for k in entries if start <= k < start + size), size)


def _through_window(window: Window, places: int, taps: int, entries: Entries) -> tuple[Entries, Entries]:
    """The places that any tap of a kernel meets, and the taps that meet more than padding."""
    geometry = window.geometry
    if not (isinstance(geometry, tuple) and len(geometry) == 5 and geometry[0] is False):
        return None, None
    _, stride, padding, dilation, _ = geometry
    if not all(isinstance(n, int) for n in (stride, padding, dilation)):
        return None, None
    steps = range(window.size) if entries is None else sorted(entries)
    met = [(tap, o * stride - padding + tap * dilation) for tap in range(taps) for o in steps]
    # A tap that meets padding alone never enters the output, and its weights get no gradient.
    inside = [(tap, place) for tap, place in met if 0 <= place < places]
    return _some(frozenset(place for _, place in inside), places), _some(frozenset(tap for tap, _ in inside), taps)


def _reshaped(before: Shape, after: Shape, out: Needed) -> list[Entries]:
    part: list[Entries] = [None] * len(before)
    for inside, outside in dimension_groups(before, after):
        sizes = [after[d] for d in outside]
        if all(out[d] is None for d in outside) or math.prod(sizes) > _WRITTEN_OUT:
            continue
        shown = np.zeros(sizes, dtype=bool)
        shown[np.ix_(*(range(after[d]) if (entries := out[d]) is None else sorted(entries) for d in outside))] = True
        shown = shown.reshape([before[d] for d in inside])
        for axis, d in enumerate(inside):
            along = shown.any(axis=tuple(k for k in range(shown.ndim) if k != axis))
            part[d] = None if along.all() else frozenset(np.flatnonzero(along).tolist())
    return part


# --- forward: operands with their unneeded entries replaced ----------------------------------------------------------


@dataclass(eq=False)
class _Writer:
    """Writes the program anew. ``known``: for a value and a dimension, of which entry each entry is a copy."""

    values: int
    out: list[Instruction] = field(default_factory=list)
    known: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)

    def write(self, instruction: Instruction, parts: Sequence[Needed]) -> None:
        operands, primitive = list(instruction.operands), instruction.primitive
        if parts and not isinstance(instruction.primitive, (p.Rearrange, p.Concatenate)):
            for k, part in enumerate(parts):
                for take in _repetitions(part, operands[k].shape):
                    if self.known.get((operands[k].index, take.dim)) != take.positions:
                        operands[k] = self._taken(operands[k], take, instruction)
                        primitive = primitive.of_entries(take) if isinstance(primitive, p.Restrict) else primitive
        self.out.append(replace(instruction, primitive=primitive, operands=tuple(operands)))
        if instruction.result is not None and operands:
            shapes = [x.shape for x in operands]
            self._note(instruction.result, operands, axis_map(instruction.primitive, shapes, instruction.result.shape))

    def _taken(self, x: Value, take: Take, reader: Instruction) -> Value:
        result = replace(x, index=self.values)
        self.values += 1
        self.out.append(Instruction(p.Rearrange(take), (x,), result, reader.cause))
        for d in range(len(x.shape)):
            if (x.index, d) in self.known:
                self.known[result.index, d] = self.known[x.index, d]
        self.known[result.index, take.dim] = take.positions
        return result

    def _note(self, result: Value, operands: Sequence[Value], axes: AxisMap) -> None:
        """The result repeats entries where all operands that reach them do."""
        for d in range(len(result.shape)):
            pairs = zip(operands, axes, strict=True)
            copies = {self.known.get((x.index, e)) for x, own in pairs for e, to in enumerate(own) if to == d}
            if len(copies) == 1 and (copy := copies.pop()) is not None:
                self.known[result.index, d] = copy


def _repetitions(part: Needed, shape: Shape) -> tuple[Take, ...]:
    """Along each dimension, unneeded entries replaced by needed ones."""
    return tuple(
        Take(dim, _filled(entries, n))
        for dim, (entries, n) in enumerate(zip(part, shape, strict=True))
        if entries and len(entries) < n
    )


def _filled(needed: Collection[int], n: int) -> tuple[int, ...]:
    """0 … n - 1 with each run of unneeded numbers replaced by as many needed ones before it, else by those behind it.

    Whole runs, so that channels of which some are cut off are still permuted as others are, one after the other where
    they fit several times (of packed queries, keys and values the values alone). Where no run fits, the needed number
    before (or the first one) stands for all. {0, 1, 4} of 6: 0 1 0 1 4 4; {4, 5} of 6: 4 5 4 5 4 5.
    """
    out: list[int] = []
    last = min(needed)
    while len(out) < n:
        start = len(out)
        alive = start in needed
        end = next((k for k in range(start, n) if (k in needed) != alive), n)
        run, before, behind = range(start, end), range(2 * start - end, start), range(end, 2 * end - start)
        if alive:
            out += run
            last = end - 1
        else:
            whole = [r for r in (before, behind) if all(k in needed for k in r)]
            several = [tiled for r in (_run(needed, start - 1, -1), _run(needed, end, 1)) if (tiled := _tiled(r, run))]
            out += [*whole, *several, [last] * len(run)][0]
    return tuple(out)


def _run(needed: Collection[int], start: int, step: int) -> list[int]:
    """The needed numbers from one on, or down, without a gap."""
    found: list[int] = []
    while start in needed:
        found.append(start)
        start += step
    return sorted(found)


def _tiled(some: Sequence[int], run: range) -> list[int]:
    """As many of a few numbers, one after the other, as a run has; none where they do not fit."""
    return [] if len(some) < 2 or len(run) % len(some) else [*some] * (len(run) // len(some))


def _complements(part: Needed, shape: Shape) -> tuple[Take, ...]:
    """Along each dimension, the entries that are not needed."""
    rest = [() if e is None else tuple(k for k in range(n) if k not in e) for e, n in zip(part, shape, strict=False)]
    return tuple(Take(dim, positions) for dim, positions in enumerate(rest) if positions)
