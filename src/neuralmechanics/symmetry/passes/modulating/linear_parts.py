"""Values as sums of parts that are linear in one parameter each: maps of data, rows of tables, biases and numbers.

A map of data is many sums of products with the same data, one for each slice of the weight: what is summed (the core)
is one function for all, and each entry of the value tells by its place which slice it is of, and of which data.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from neuralmechanics.slices import SliceView
from neuralmechanics.symmetry.passes.facts.equal_values import equal_values
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.contraction import Window
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["ENTRIES", "NUMBER", "LinearParts", "Part", "aligned"]

ENTRIES, NUMBER = ("entries",), ("number",)  # the cores of parameters that stand for themselves, and of numbers
_MANY = 24  # parts that are followed of one value


@dataclass(frozen=True, eq=False)
class Part:
    """factor · core(slice, rest), where ``kept`` and ``rest`` tell for each entry of a value which slice, which data.

    ``kept``: for dimensions of the parameter, the index of the slice along them; ``rest``: places in the dimensions of
    the data that are left. All are compressed arrays over the value's dimensions. Two parts of one ``core`` are the
    same function of a slice and of these places.
    """

    parameter: str
    shape: tuple[int, ...]
    kept: Mapping[int, np.ndarray]
    core: Hashable
    rest: tuple[np.ndarray, ...] = ()
    factor: float = 1.0

    @property
    def view(self) -> SliceView:
        """The slices."""
        return SliceView(self.parameter, self.shape, tuple(sorted(self.kept)))

    @property
    def of_data(self) -> bool:
        """Whether data enter."""
        return self.core not in (ENTRIES, NUMBER)

    @property
    def picked(self) -> bool:
        """Whether it is one row of a table for each datum, so that a table of equal rows is a constant."""
        return isinstance(self.core, tuple) and self.core[0] == "picked"

    @property
    def inner(self) -> tuple[int, ...]:
        """Sizes of what one slice holds."""
        return tuple(n for d, n in enumerate(self.shape) if d not in self.kept and n > 1)

    def numbers(self, rank: int) -> np.ndarray:
        """The number of the slice that each entry of a value of ``rank`` dimensions is of."""
        total = np.zeros((1,) * rank, np.int64)
        for d in sorted(self.kept):
            total = total * self.shape[d] + self.kept[d]
        return total

    def moved(self, how: Callable[[np.ndarray], np.ndarray]) -> Part:
        """The part in another tensor, by what becomes of its arrays."""
        kept = {d: how(a) for d, a in self.kept.items()}
        return replace(self, kept=kept, rest=tuple(how(a) for a in self.rest))


def aligned(array: np.ndarray, rank: int) -> np.ndarray:
    """With new dimensions in front, as broadcasting puts them there."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


@dataclass(eq=False)
class LinearParts:
    """What is found in a program, each value looked at once."""

    program: Program
    makers: dict[int, Instruction]
    _found: dict[int, tuple[tuple[Part, ...], bool]] = field(default_factory=dict)
    _same: dict[int, int] | None = None

    def of(self, x: Value) -> tuple[tuple[Part, ...], bool]:
        """The parts of a value, the last ones of many, and whether the value is their sum."""
        if x.index not in self._found:
            self._found[x.index] = self._read(x)
        return self._found[x.index]

    def _read(self, x: Value) -> tuple[tuple[Part, ...], bool]:
        maker, rank = self.makers[x.index], len(x.shape)
        primitive = maker.primitive
        if not x.depends:
            number = x.number
            return ((Part("", (), {}, NUMBER, (), number),), True) if number is not None else ((), False)
        if isinstance(primitive, p.Parameter):
            wide = [d for d, n in enumerate(x.shape) if n > 1]
            return (Part(primitive.name, x.shape, {d: along(x.shape[d], d, rank) for d in wide}, ENTRIES),), True
        if not isinstance(primitive, (p.Rearrange, p.Add, p.AddNumber, p.Scale, p.Contract, p.Gather)):
            return (), False
        complete, parts = True, []
        if isinstance(primitive, p.AddNumber):
            parts, complete = [Part("", (), {}, NUMBER, (), primitive.number)], primitive.broken_by is None
        each = isinstance(primitive, p.Contract)  # one factor is the parameter, the other one data
        for place, operand in enumerate(maker.operands):
            inside, whole = self.of(operand)
            after = [one for part in inside if (one := self.stepped(part, maker, place)) is not None]
            complete = complete and (each or (whole and len(after) == len(inside)))
            parts += after
        complete = complete and not (each and len(parts) != 1) and len(parts) <= _MANY
        return tuple(parts[-_MANY:]), complete

    def stepped(self, part: Part, instruction: Instruction, place: int) -> Part | None:
        """What an instruction makes of a part of one of its operands; None where that is no part any more."""
        primitive, held, result = instruction.primitive, instruction.operands[place], instruction.result
        if result is None:
            return None
        rank = len(result.shape)
        match primitive:
            case p.Rearrange():
                return part.moved(lambda a: primitive.view.apply(a, held.shape) if a.ndim else a)
            case p.Add():
                scaled = replace(part, factor=part.factor * (primitive.scale if place else 1.0))
                return scaled.moved(lambda a: aligned(a, rank)) if scaled.factor else None
            case p.AddNumber():
                return part
            case p.Scale():
                return replace(part, factor=part.factor * primitive.factor) if primitive.factor else None
            case p.Contract() if part.core == ENTRIES and primitive.function is None:
                return self._contracted(part, instruction, place)
            case p.Gather() if part.core == ENTRIES:
                return _picked(part, primitive)
        return None

    def _contracted(self, part: Part, instruction: Instruction, place: int) -> Part | None:
        assert isinstance(instruction.primitive, p.Contract)
        how, other = instruction.primitive.how, instruction.operands[1 - place]
        mine, theirs = (how.x, how.y) if place == 0 else (how.y, how.x)
        windows = {w.x: w for w in how.windows}
        if any(letter in windows for letter in mine) or other is instruction.operands[place]:
            return None
        kernels = {w.kernel: w for w in how.windows}
        kept: dict[int, np.ndarray] = {}
        inner: list[Hashable] = []
        for d, array in sorted(part.kept.items()):
            letters = {mine[k] for k, n in enumerate(array.shape) if n > 1}
            if letters <= {*how.out}:
                kept[d] = _placed(array, mine, how.out)
            elif letters & {*how.out}:
                return None
            else:
                tokens = tuple(_token(k, theirs, kernels) for k in mine if k in letters)
                inner.append((tokens, array.size, np.ascontiguousarray(array).tobytes()))
        rest, roles = [], []
        for k, letter in enumerate(theirs):
            window = windows.get(letter)
            out, size = (window.out, window.size) if window else (letter, other.shape[k])
            roles.append(_told(window) if out in how.out else "summed")
            if out in how.out:
                rest.append(along(size, how.out.index(out), len(how.out)))
        core = ("sums", self._number(other), tuple(roles), tuple(inner))
        return Part(part.parameter, part.shape, kept, core, tuple(rest), part.factor)

    def _number(self, x: Value) -> int:
        if self._same is None:
            self._same = equal_values(self.program)
        return self._same[x.index]


def along(count: int, dim: int, rank: int) -> np.ndarray:
    """0, 1, … along one dimension."""
    return np.arange(count).reshape([count if d == dim else 1 for d in range(rank)])


def _placed(array: np.ndarray, letters: str, out: str) -> np.ndarray:
    """An array over the dimensions of a factor over those of the result."""
    order = [letters.index(k) for k in out if k in letters]
    rest = [d for d in range(len(letters)) if d not in order]
    sizes = [array.shape[letters.index(k)] if k in letters else 1 for k in out]
    return array.transpose([*order, *rest]).reshape(sizes)


def _token(letter: str, theirs: str, kernels: Mapping[str, Window]) -> Hashable:
    """What a summed letter of a weight meets in the data."""
    if letter in kernels:
        window = kernels[letter]
        return ("kernel", theirs.index(window.x), *_told(window))
    return theirs.index(letter) if letter in theirs else "alone"


def _told(window: Window | None) -> tuple[Hashable, ...]:
    return ("kept",) if window is None else ("window", window.geometry, window.keeps_constants, window.size)


def _picked(part: Part, primitive: p.Gather) -> Part | None:
    """Rows of a table: the index takes the place of a dimension."""
    dim, count = primitive.dim, len(primitive.index_shape)
    kept, inner = {}, []

    def moved(a: np.ndarray) -> np.ndarray:
        return a.reshape((*a.shape[:dim], *(1,) * count, *a.shape[dim + 1 :]))

    for d, array in sorted(part.kept.items()):
        if array.shape[dim] == 1:
            kept[d] = moved(array)
        elif array.size == array.shape[dim]:
            inner.append(np.ascontiguousarray(array).tobytes())
        else:
            return None
    if len(inner) != 1:
        return None
    rank = len(part.shape) if not part.kept else next(iter(part.kept.values())).ndim
    rest = tuple(along(n, dim + k, rank + count - 1) for k, n in enumerate(primitive.index_shape))
    core = ("picked", primitive.index, primitive.index_shape, primitive.function, inner[0])
    return Part(part.parameter, part.shape, kept, core, rest, part.factor)
