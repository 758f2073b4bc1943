"""Channels as sums of other channels times data: y_k = Σ ± d_k · x_i(k), read off the program by value numbers.

A rotary embedding is a sum of two such terms however it is written: half-split or interleaved, with concatenation or
with complex numbers. Data (cosines, sines, tables) are numbered channel by channel, so that two channels that are
multiplied by equal numbers are seen to be; the channels are those of a tensor's last dimension, which a reshape may
split in two.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neuralmechanics.symmetry.passes.facts.rotations.trailing_dimensions import leads, rearranged
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import PARTS, UNITS
from neuralmechanics.symmetry.program.attributes.views import Reshape
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["ChannelSums", "Sum", "Term"]


_DEEPEST = 200  # instructions on data that are followed back; what is further away counts as new


@dataclass(frozen=True, eq=False)
class Term:
    """sign · factor · channel, elementwise; factor 0 stands for one. All three have the tensor's trailing shape."""

    sign: np.ndarray
    channel: np.ndarray
    factor: np.ndarray

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.sign, self.channel, self.factor


@dataclass(frozen=True, eq=False)
class Sum:
    """A tensor as a sum of terms in the channels of ``source``; ``imaginary`` holds those of the imaginary part."""

    source: Value
    terms: tuple[Term, ...]
    imaginary: tuple[Term, ...] | None = None

    def block(self) -> int:
        """How many trailing dimensions the channels take up."""
        return self.terms[0].sign.ndim


class ChannelSums:
    """Reads a program from front to back."""

    def __init__(self, program: Program, held: Callable[[Value], np.ndarray | None] = lambda value: None) -> None:
        self._held = held
        self.looked_at: set[int] = set()  # values of which the entries were compared
        self._makers = program.makers()
        self.sums: dict[int, Sum] = {}
        self._data: dict[int, np.ndarray] = {}
        self._numbers: dict[Hashable, int] = {}

    # --- data -----------------------------------------------------------------------------------------------------

    def _number(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers) + 1)

    def _numbered(self, key: Hashable, *arrays: np.ndarray) -> np.ndarray:
        """For every place of the broadcast arrays, the number of (key, their entries)."""
        full = np.broadcast_arrays(*arrays)
        rows = np.stack([a.reshape(-1) for a in full], axis=1).tolist()
        return np.array([self._number((key, *row)) for row in rows]).reshape(full[0].shape)

    def data(self, value: Value, depth: int = 0) -> np.ndarray:
        """A number for every channel of a value that no parameter reaches, equal where the channels are equal."""
        if value.index not in self._data:
            maker = self._makers[value.index]
            found = self._read_data(maker, value, depth + 1) if depth < _DEEPEST else None
            found = self._of_model(value) if found is None else found
            if found is None:
                # Of unknown data each channel is a number of its own and equals no other.
                found = self._numbered(("new", value.index), np.arange(value.shape[-1] if value.shape else 1))
            self._data[value.index] = found
        return self._data[value.index]

    def _of_model(self, value: Value) -> np.ndarray | None:
        """Channels by their entries, where these are numbers of the model; minus a number for minus the entries."""
        entries = self._held(value) if value.shape else None
        if entries is None:
            return None
        self.looked_at.add(value.index)
        numbers = []
        for channel in np.moveaxis(entries, -1, 0):
            first = next(iter(channel[channel != 0].tolist()), 1.0)
            sign = 1 if first > 0 else -1
            # + 0.0 makes -0 into 0, whose bytes would tell equal entries apart.
            numbers.append(sign * self._number(("entries", channel.shape, (sign * channel + 0.0).tobytes())))
        return np.array(numbers)

    def _read_data(self, maker: Instruction, value: Value, depth: int) -> np.ndarray | None:
        primitive, shape = maker.primitive, value.shape
        if value.number is not None:
            return self._numbered(("number", value.number), np.zeros(shape[-1:], np.int64)) if shape else None
        if isinstance(primitive, p.Gather) and len(maker.operands) == 1:  # of other dimensions: positions, by the data
            own = self.data(maker.operands[0], depth)
            picked = ("gathered", primitive.dim, primitive.index_shape, primitive.index)
            return self._numbered(picked, own) if primitive.dim < len(maker.operands[0].shape) - own.ndim else None
        if isinstance(primitive, (p.Rearrange, p.Concatenate)):
            stacks = isinstance(primitive, p.Concatenate) and primitive.dim % len(shape) == len(shape) - 1
            arrays = [self._column(x, depth) if stacks else self.data(x, depth) for x in maker.operands]
            moved = rearranged(maker, arrays)
            if moved is None:
                return self._led(maker, arrays[0]) if leads(maker, arrays) else None
            while moved.ndim > 1 and moved.shape[0] == 1:  # a dimension in front of the channels
                moved = self._numbered(("inserted", shape), moved[0])
            return moved if moved.shape[-1] > 1 or moved.ndim == 1 else None
        if (whole := self._split_complex(maker)) is not None:
            own = self.data(whole, depth)
            return np.stack([self._numbered("real", own), self._numbered("imaginary", own)], axis=-1)
        key = _elementwise_key(primitive)
        if key is None or not shape or not maker.operands:
            return None
        arrays = [self.data(x, depth) for x in maker.operands]
        front = tuple(len(x.shape) - a.ndim for x, a in zip(maker.operands, arrays, strict=True))
        return self._numbered((key, front), *arrays) if _broadcast(arrays) else None

    def _column(self, x: Value, depth: int) -> np.ndarray:
        """The channels of a tensor that is stacked with others along a new last dimension, one beside the other."""
        maker = self._makers[x.index]
        if isinstance(maker.primitive, p.Rearrange) and isinstance(maker.primitive.view, Reshape):
            (before,) = maker.operands
            if x.shape == (*before.shape, 1) and before.shape:
                return self.data(before, depth)[..., None]
        return self.data(x, depth)

    def _led(self, maker: Instruction, own: np.ndarray) -> np.ndarray:
        """The same channels behind rearranged leading dimensions."""
        result = maker.result
        front = () if result is None else result.shape[: len(result.shape) - own.ndim]
        return self._numbered((maker.primitive, front), own)

    def _split_complex(self, maker: Instruction) -> Value | None:
        """The complex value of which the instruction gives real and imaginary part along a new last dimension."""
        function = maker.primitive.function if isinstance(maker.primitive, p.Multiply) else None
        if function is None or function.name != PARTS:
            return None
        inserted = self._makers[maker.operands[0].index]
        return inserted.operands[0] if isinstance(inserted.primitive, p.Rearrange) else None

    # --- what parameters reach ------------------------------------------------------------------------------------

    def known(self, value: Value) -> Sum:
        """The tensor as it is known, or as its own source."""
        if value.index not in self.sums:
            self.sums[value.index] = _own(value)
        return self.sums[value.index]

    def read(self, maker: Instruction) -> Sum | None:
        """The instruction's result as a sum of channels of what it reads; None where it is something else."""
        primitive, operands = maker.primitive, maker.operands
        if maker.result is None or not maker.result.shape or not operands:
            return None
        if any(x.depends and not x.shape for x in operands):  # a number that depends on parameters has no channels
            return None
        if isinstance(primitive, p.Scale) and primitive.factor == -1:
            own = self.known(operands[0])
            return None if own.imaginary else replace(own, terms=tuple(_negative(t) for t in own.terms))
        if (whole := self._split_complex(maker)) is not None:
            return self._paired(self.known(whole))
        if isinstance(primitive, p.Multiply):
            return self._product(operands[0], operands[1])
        if isinstance(primitive, p.Add) and abs(primitive.scale) == 1 and all(x.depends for x in operands):
            return self._added(operands[0], operands[1], int(primitive.scale))
        if isinstance(primitive, p.Contract):
            return self._joined_complex(maker)
        if not isinstance(primitive, (p.Rearrange, p.Concatenate)):
            return None
        found = self._moved(maker)
        held = self.known(operands[0])
        part = isinstance(primitive, p.Rearrange) and held.source is not operands[0] and not held.imaginary
        if found is None and part:
            self.sums[operands[0].index] = _own(operands[0])  # heads were split before: the channels of one head
            found = self._moved(maker)
        return found

    def _joined_complex(self, maker: Instruction) -> Sum | None:
        """x[…, 0] + i x[…, 1]."""
        x, units = maker.operands
        made = self._makers[units.index].primitive
        if not (isinstance(made, p.Constant) and made.function is not None and made.function.name == UNITS):
            return None
        own = self.known(x)
        if own.block() < 2 or own.imaginary:
            return None
        real, imaginary = (tuple(Term(*(a[..., k] for a in t.arrays())) for t in own.terms) for k in (0, 1))
        return Sum(own.source, real, imaginary)

    def _product(self, x: Value, y: Value) -> Sum | None:
        if x.depends == y.depends:
            return None
        x, y = (x, y) if x.depends else (y, x)
        if not x.shape:  # one number has no channels
            return None
        own, data = self.known(x), self.data(y)
        # Times data a second time: numbers of values say what is equal and cannot be multiplied.
        if any(t.factor.any() for t in own.terms) or len(y.shape) > len(x.shape):
            return None
        if np.broadcast_shapes(own.terms[0].sign.shape, data.shape[-1:]) != own.terms[0].sign.shape:
            return None
        if data.ndim > own.block() or not _broadcast([own.terms[0].sign, data]):
            return None
        if own.imaginary is None:
            return replace(own, terms=tuple(_times(t, data) for t in own.terms))
        real, imaginary = self._numbered("real", data), self._numbered("imaginary", data)
        if len(own.terms) != 1 or len(own.imaginary) != 1:
            return None
        (a,), (b,) = own.terms, own.imaginary
        turned = _times(_negative(b), imaginary)
        return Sum(own.source, (_times(a, real), turned), (_times(a, imaginary), _times(b, real)))

    def _added(self, x: Value, y: Value, sign: int) -> Sum | None:
        first, second = self.known(x), self.known(y)
        same = first.source is second.source and x.shape == y.shape and not (first.imaginary or second.imaginary)
        if not same or first.block() != second.block() or len(first.terms) + len(second.terms) != 2:
            return None
        return replace(first, terms=(*first.terms, *(t if sign == 1 else _negative(t) for t in second.terms)))

    def _paired(self, own: Sum) -> Sum | None:
        if own.imaginary is None or len(own.terms) != len(own.imaginary):
            return None
        pairs = zip(own.terms, own.imaginary, strict=True)
        terms = (Term(*map(_stacked, a.arrays(), b.arrays())) for a, b in pairs)
        return Sum(own.source, tuple(terms))

    def _moved(self, maker: Instruction) -> Sum | None:
        """Rearrangements of the channels of one source."""
        if not all(x.depends for x in maker.operands):
            return None
        sums = [self.known(x) for x in maker.operands]
        first = sums[0]
        if any(s.source is not first.source or s.imaginary or len(s.terms) != len(first.terms) for s in sums):
            return None
        terms = []
        for k in range(len(first.terms)):
            fields = [rearranged(maker, [s.terms[k].arrays()[field] for s in sums]) for field in range(3)]
            if any(field is None for field in fields):
                return None
            terms.append(Term(*(field for field in fields if field is not None)))
        return Sum(first.source, tuple(terms))


def _own(value: Value) -> Sum:
    count = value.shape[-1]
    one = np.ones(count, np.int64)
    return Sum(value, (Term(one, np.arange(count), 0 * one),))


def _negative(term: Term) -> Term:
    return replace(term, sign=-term.sign)


def _stacked(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([a, b], axis=-1)


def _times(term: Term, data: np.ndarray) -> Term:
    data = np.broadcast_to(data, term.sign.shape)
    # Numbers of tables are negative where their entries are the opposite of others (see ``_of_model``).
    return replace(term, sign=term.sign * np.sign(data), factor=np.abs(data))


def _broadcast(arrays: Sequence[np.ndarray]) -> bool:
    """Whether the trailing dimensions fit together."""
    ranks = max(a.ndim for a in arrays)
    shapes = [(1,) * (ranks - a.ndim) + a.shape for a in arrays]
    return all(len({n for n in sizes if n != 1}) <= 1 for sizes in zip(*shapes, strict=True))


def _elementwise_key(primitive: p.Primitive) -> Hashable | None:
    """What tells one elementwise function of data from another; None for what is not elementwise."""
    if isinstance(primitive, p.Constant):
        return primitive.computed if primitive.elementwise else None
    if isinstance(primitive, (p.Add, p.AddNumber, p.Scale, p.Multiply, p.Power, p.Maximum)):
        return primitive
    if isinstance(primitive, (p.Homogeneous, p.Nonlinear)):
        return primitive if primitive.function is not None and not primitive.function.data else None
    return None
