"""How each parameter is read: elementwise, or in sums of products; once, or more often."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.taking_biases import taking_biases
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take, View, dimension_groups
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["ParameterUses", "parameter_uses"]

Dims = tuple[int, ...]
Runs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ParameterUses:
    """``elementwise``: parameters that no sum of products and no index reads, directly or rearranged; and those of
    which several sums of products read parts, each against data of its own. With each the dimensions along which its
    entries may scale differently: not those over which one of its readers sums or normalises.

    ``pieces``: matrices that are read in runs of rows, each against data of its own: where each run starts and stops.
    ``groups``: convolutions in groups. ``contracted``: the sets of dimensions that a sum of products treats as one:
    those that it keeps and those that it sums, each with those that it shares with the other factor and keeps.
    ``single``: parameters that one instruction reads, once. ``answering``: the places in the program where a parameter
    that nothing else reads is added to a sum of products that nothing else reads. ``reads``: how many instructions read
    each parameter, directly or rearranged. ``taking``: for sums, by place in the program and operand, a bias that takes
    back what the operand gains.
    """

    elementwise: dict[str, Dims]
    groups: dict[str, int]
    contracted: dict[str, list[Dims]]
    single: frozenset[str]
    answering: frozenset[int]
    pieces: dict[str, Runs]
    reads: dict[str, int]
    taking: dict[tuple[int, int], str]


@naming_the_operation
def parameter_uses(program: Program) -> ParameterUses:
    """Looks at the instructions that read each parameter, directly or rearranged."""
    readers, makers = program.readers(), program.makers()
    elementwise: dict[str, Dims] = {}
    groups: dict[str, int] = {}
    contracted: dict[str, list[Dims]] = {}
    single: set[str] = set()
    pieces: dict[str, Runs] = {}
    reads: dict[str, int] = {}
    for instruction in program.instructions:
        if not isinstance(instruction.primitive, p.Parameter) or instruction.result is None:
            continue
        name, value = instruction.primitive.name, instruction.result
        ends = _ends(value, readers)
        reads[name] = reads.get(name, 0) + len(ends)
        summed = any(isinstance(read.primitive, (p.Contract, p.Gather)) for _, read in ends)
        if runs := _runs(value, ends, makers):
            pieces[name] = runs
        elif not summed or _in_pieces(ends, makers):
            alike = _alike(value, readers)
            elementwise[name] = tuple(d for d, n in enumerate(value.shape) if n > 1 and d not in alike)
        if _read_once(value, readers):
            single.add(name)
        for held, read in ends:
            if not isinstance(read.primitive, p.Contract):
                continue
            how, place = read.primitive.how, 0 if read.operands[0] is held else 1
            if how.windows and (count := _group_count(how, place, value, held)) > 1:
                groups[name] = count
            elif not how.windows and (sets := _sets_of(value, _index_sets(how, place), held, makers)):
                contracted.setdefault(name, sets)
    answering = _answering(program, readers)
    taking = taking_biases(program, single)
    return ParameterUses(elementwise, groups, contracted, frozenset(single), answering, pieces, reads, taking)


def _answering(program: Program, readers: dict[int, list[Instruction]]) -> frozenset[int]:
    products = {
        i.result.index
        for i in program.instructions
        if isinstance(i.primitive, p.Contract) and i.result is not None and len(readers.get(i.result.index, ())) == 1
    }
    added = (k for k, i in enumerate(program.instructions) if isinstance(i.primitive, p.Add))
    return frozenset(k for k in added if any(x.index in products for x in program.instructions[k].operands))


def _ends(value: Value, readers: dict[int, list[Instruction]]) -> list[tuple[Value, Instruction]]:
    """What reads the value in the end, and the rearranged value that it reads."""
    found = []
    for read in readers.get(value.index, ()):
        if isinstance(read.primitive, p.Rearrange) and read.result is not None:
            found += _ends(read.result, readers)
        else:
            found.append((value, read))
    return found


def _alike(value: Value, readers: dict[int, list[Instruction]]) -> frozenset[int]:
    """Dimensions along which some reader, of the value or of it rearranged, wants all entries to scale alike."""
    found: set[int] = set()
    for read in readers.get(value.index, ()):
        if isinstance(read.primitive, (p.Normalise, p.Reduce, p.Deviation, p.Extremum, p.Positions)):
            # One reader is enough: entries that are added up must scale alike, whatever else reads them.
            found |= {d % max(1, len(value.shape)) for d in read.primitive.dims}
        elif isinstance(read.primitive, p.Rearrange) and read.result is not None:
            found |= _before(read.primitive.view, value.shape, read.result.shape, _alike(read.result, readers))
    return frozenset(found)


def _before(view: View, shape: Dims, out: Dims, dims: frozenset[int]) -> set[int]:
    """The dimensions that lie within ``dims`` after a rearrangement of all entries."""
    if isinstance(view, Permute):
        return {view.order[d] for d in dims}
    if isinstance(view, Expand):
        return {d - len(out) + len(shape) for d in dims if d >= len(out) - len(shape)}
    # Entries that are not taken are free to scale on their own, so the dimension as a whole is not tied.
    if isinstance(view, Take):
        return set()
    wide = {d for d, n in enumerate(out) if n > 1}
    return {d for before, after in dimension_groups(shape, out) if wide & set(after) <= dims for d in before}


def _in_pieces(ends: list[tuple[Value, Instruction]], makers: dict[int, Instruction]) -> bool:
    """Whether sums of products read parts of several rows, against different data."""
    others = set()
    for held, read in ends:
        if not isinstance(read.primitive, p.Contract) or not _is_part(held, makers):
            return False
        others.add(_root(read.operands[1 if read.operands[0] is held else 0], makers))
    return len(others) > 1


def _runs(value: Value, ends: list[tuple[Value, Instruction]], makers: dict[int, Instruction]) -> Runs:
    """The runs of rows in which a matrix is read; none where they overlap, or where all are read against one value."""
    if len(value.shape) != 2 or not _in_pieces(ends, makers):
        return ()
    found = {_first_run(held, value, makers) for held, _ in ends}
    known = sorted(run for run in found if run is not None)
    apart = all(one[1] <= other[0] for one, other in pairwise(known))
    return tuple(known) if len(known) == len(found) and apart and min(value.shape) > 1 else ()


def _first_run(held: Value, value: Value, makers: dict[int, Instruction]) -> tuple[int, int] | None:
    """The rows that the first rearrangement takes on the way from a matrix; None where it takes no run of them."""
    maker = makers[held.index]
    while maker.operands and maker.operands[0].index != value.index:
        maker = makers[maker.operands[0].index]
    view = maker.primitive.view if isinstance(maker.primitive, p.Rearrange) else None
    if not isinstance(view, Take) or view.dim != 0:
        return None
    start, stop = view.positions[0], view.positions[0] + len(view.positions)
    return (start, stop) if view.positions == tuple(range(start, stop)) else None


def _is_part(value: Value, makers: dict[int, Instruction]) -> bool:
    """Whether some, but more than one, of the entries along a first dimension have been taken."""
    maker = makers[value.index]
    while isinstance(maker.primitive, p.Rearrange):
        view = maker.primitive.view
        if isinstance(view, Take) and view.dim == 0 and 1 < len(set(view.positions)) < maker.operands[0].shape[0]:
            return True
        maker = makers[maker.operands[0].index]
    return False


def _root(value: Value, makers: dict[int, Instruction]) -> int:
    """What a value is a rearrangement of."""
    while isinstance((maker := makers[value.index]).primitive, p.Rearrange):
        value = maker.operands[0]
    return value.index


def _read_once(value: Value, readers: dict[int, list[Instruction]]) -> bool:
    read = readers.get(value.index, [])
    if len(read) != 1 or sum(x is value for x in read[0].operands) != 1:
        return False
    only = read[0]
    return not isinstance(only.primitive, p.Rearrange) or only.result is None or _read_once(only.result, readers)


def _group_count(how: Contraction, place: int, value: Value, held: Value) -> int:
    """In how many groups a convolution uses its kernel: the first dimension is split, and the parts are kept apart."""
    mine, theirs = (how.x, how.y) if place == 0 else (how.y, how.x)
    split = len(held.shape) == len(value.shape) + 1 and Reshape(held.shape).output_shape(value.shape) == held.shape
    return held.shape[0] if split and mine[0] in theirs and mine[0] in how.out else 1


def _index_sets(how: Contraction, place: int) -> list[Dims]:
    """Dimensions that are kept, and those that are summed, each with those shared by both factors and kept."""
    mine, theirs = (how.x, how.y) if place == 0 else (how.y, how.x)
    shared = [d for d, letter in enumerate(mine) if letter in how.out and letter in theirs]
    kept = [d for d, letter in enumerate(mine) if letter in how.out and letter not in theirs]
    summed = [d for d, letter in enumerate(mine) if letter not in how.out]
    return sorted(tuple(sorted([*shared, *dims])) for dims in (kept, summed) if dims) or [tuple(shared)]


def _sets_of(value: Value, sets: list[Dims], held: Value, makers: dict[int, Instruction]) -> list[Dims]:
    """Sets of dimensions of a rearrangement, as sets of those of what it rearranges; none where they are no such."""
    while held is not value and sets:
        made = makers[held.index]
        before = made.operands[0]
        if not isinstance(made.primitive, p.Rearrange):
            return []
        parts = _parts(made.primitive.view, before.shape)
        found = [_united(dims, parts) for dims in sets]
        sets = [dims for dims in found if dims is not None] if None not in found else []
        held = before
    return sets


def _parts(view: View, before: Dims) -> list[tuple[Dims, Dims]]:
    """Dimensions before a rearrangement and those after it that hold the same entries; none where it picks some."""
    if isinstance(view, Permute):
        return [((d,), (k,)) for k, d in enumerate(view.order)]
    if isinstance(view, Reshape):
        groups = dimension_groups(before, view.shape)
        return [
            (tuple(d for d in inside if before[d] > 1), tuple(d for d in outside if view.shape[d] > 1))
            for inside, outside in groups
        ]
    return []


def _united(dims: Dims, parts: list[tuple[Dims, Dims]]) -> Dims | None:
    """The dimensions before that are ``dims`` after; None where some dimension before is only partly among them."""
    met = [(inside, outside) for inside, outside in parts if set(outside) & set(dims)]
    if not met or not all(set(outside) <= set(dims) for _, outside in met):
        return None
    return tuple(sorted(d for inside, _ in met for d in inside))
