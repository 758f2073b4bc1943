"""The writer of a program: one method for each primitive, which appends an instruction and returns its value."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import accumulate
from typing import Any, NoReturn

from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.function import NEGATIVE, POSITIVE, Function
from neuralmechanics.symmetry.program.attributes.index import Index
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take, View
from neuralmechanics.symmetry.program.conditions import Condition
from neuralmechanics.symmetry.program.facts import is_nonnegative, number_of
from neuralmechanics.symmetry.program.program import Instruction, Location, Program
from neuralmechanics.symmetry.program.refusals import Reason, UnsupportedFormError
from neuralmechanics.symmetry.program.value import Value, is_value

__all__ = ["Builder"]


_NOWHERE = Location(-1, "nothing", "nowhere")


class Builder:
    """Writes a program, one instruction a call; operands that do not fit raise ``UnsupportedFormError``."""

    def __init__(self, undecided: Callable[[int], bool] = lambda size: False) -> None:
        self._undecided = undecided  # tells the numbers that stand for sizes which the data decide
        self.cause = _NOWHERE
        self._tape: list[Instruction] = []
        self._values = 0
        self._numbers: dict[int, Value] = {}
        self._joined: dict[int, tuple[int, Sequence[Value]]] = {}  # concatenations: the dimension and the parts
        self._conditions: list[tuple[int, Condition]] = []  # with how many instructions had been written

    def __getattr__(self, name: str) -> NoReturn:
        known = [own for own in dir(type(self)) if not own.startswith("_")]
        near = get_close_matches(name, known, 1)
        hint = f"; {near[0]!r} is near" if near else ""
        raise AttributeError(f"there is no primitive {name!r} in {__name__}{hint}")

    # --- the tape -----------------------------------------------------------------------------------------------

    def length(self) -> int:
        """How many instructions have been written."""
        return len(self._tape)

    def roll_back(self, length: int) -> None:
        """Forgets everything written after the first ``length`` instructions."""
        del self._tape[length:]
        self._conditions = [(at, condition) for at, condition in self._conditions if at <= length]

    def note_numbers(self, values: Iterable[Value]) -> None:
        """Notes values that are made of the model's own numbers alone."""
        self._numbers.update((value.index, value) for value in values)

    def requires(self, condition: Condition) -> None:
        """Notes what the instructions that were just written hold for."""
        self._conditions.append((self.length(), condition))

    def program(self) -> Program:
        numbers = (k for k, value in self._numbers.items() if not value.number)  # one nonzero number is no table
        conditions = tuple(condition for _, condition in self._conditions)
        return Program(tuple(self._tape), frozenset(numbers), conditions)

    def _write(self, primitive: p.Primitive, *xs: Any) -> Value | None:
        for x in xs:
            if not is_value(x):
                raise UnsupportedFormError(f"{x!r} where a tensor is needed")
        shape = primitive.output_shape(*(x.shape for x in xs))
        result = None
        if shape is not None:
            moves = isinstance(primitive, p.Parameter) or any(x.depends for x in xs)
            depends = moves and not isinstance(primitive, p.Constant)
            result = Value(self._values, shape, depends, number_of(primitive, xs), is_nonnegative(primitive, xs))
            self._values += 1
        self._tape.append(Instruction(primitive, xs, result, self.cause))
        return result

    def _value(self, primitive: p.Primitive, *xs: Any) -> Value:
        result = self._write(primitive, *xs)
        if result is None:
            raise AssertionError(f"{primitive} has no result")
        return result

    # --- leaves and statements ----------------------------------------------------------------------------------

    def parameter(self, name: str, shape: Sequence[int]) -> Value:
        return self._value(p.Parameter(name, tuple(shape)))

    def constant(
        self,
        shape: Sequence[int],
        number: float | None = None,
        nonnegative: bool = False,
        function: Function | None = None,
        entries_of: str | None = None,
    ) -> Value:
        return self._value(p.Constant(tuple(shape), number, nonnegative, function, entries_of=entries_of))

    def computed(
        self, shape: Sequence[int], key: Hashable, elementwise: bool, function: Function, xs: Sequence[Value]
    ) -> Value:
        """Data that were computed from ``xs``: from data, or from values of which the demands keep them as they are."""
        return self._value(p.Constant(tuple(shape), function=function, computed=key, elementwise=elementwise), *xs)

    def fix(self, *xs: Any, reason: Reason | None = None) -> None:
        """The operands may not change at all; ``reason``: as far as is known, for the operation is not followed."""
        if xs:
            self._write(p.Fix(reason), *xs)

    def forget(
        self,
        shape: Sequence[int],
        reason: Reason,
        hides: bool,
        *xs: Any,
        function: Function | None = None,
        elementwise: bool = False,
        parity: int = 0,
    ) -> Value:
        """A result of an operation that is not followed."""
        forget = p.Forget(tuple(shape), reason, hides, function, elementwise, parity < 0, parity > 0)
        return self._value(forget, *xs)

    def ended(self, shape: Sequence[int], function: Function | None, *xs: Any) -> Value:
        """A function of operands that may not change."""
        return self._value(p.Ended(tuple(shape), function), *xs)

    def paired(self, x: Any, first: Sequence[int], second: Sequence[int]) -> None:
        self._write(p.Pair(tuple(first), tuple(second)), x)

    # --- rearrangements -----------------------------------------------------------------------------------------

    def view(self, x: Any, view: View) -> Value:
        return self._value(p.Rearrange(view), x)

    def cat(self, xs: Sequence[Any], dim: int) -> Value:
        """Concatenation; zeros before and after the rest are a padding."""
        zero = [is_value(x) and x.constant_number() == 0 for x in xs]
        if all(is_value(x) for x in xs) and any(zero) and not all(zero):
            first, last = zero.index(False), len(zero) - zero[::-1].index(False)
            if not any(x.depends for x in (*xs[:first], *xs[last:])):
                p.Concatenate(dim).output_shape(*(x.shape for x in xs))  # refuses what does not fit
                before, after = (sum(x.shape[dim] for x in part) for part in (xs[:first], xs[last:]))
                inner = xs[first] if last - first == 1 else self._value(p.Concatenate(dim), *xs[first:last])
                return self.zero_padded(inner, dim, before, after)
        made = self._value(p.Concatenate(dim), *xs)
        if all(is_value(x) for x in xs):
            self._joined[made.index] = dim % len(made.shape), tuple(xs)
        return made

    def zero_padded(self, x: Any, dim: int, before: int, after: int) -> Value:
        return self._value(p.Pad(dim, before, after), x)

    def resized(self, x: Any, shape: Sequence[int], function: Function | None = None) -> Value:
        return self._value(p.Resize(tuple(shape), function), x)

    def gather(
        self,
        x: Any,
        dim: int,
        index_shape: Sequence[int],
        indices: Sequence[Value],
        function: Function | None = None,
        how: Hashable = (),
        some: bool = False,
    ) -> Value:
        """Entries at places that the values ``indices`` decide, in the way that ``how`` tells from others.

        ``some``: there are places that they never name. Where all are made of the model's own numbers there may be.
        """
        index = Index(tuple(value.index for value in indices), how)
        some = some or self._of_model(indices)
        return self._value(p.Gather(dim, tuple(index_shape), index, some, function), x)

    def _of_model(self, indices: Sequence[Value]) -> bool:
        return bool(indices) and all(value.index in self._numbers for value in indices)

    def spread_along(
        self, x: Any, dim: int, apart: Sequence[int] = (), indices: Sequence[Value] = (),
        function: Function | None = None, some: bool = False,
    ) -> Value:  # fmt: skip
        """Entries in places that the values ``indices`` decide, or the data in other ways; ``some`` as above."""
        return self._value(p.Spread(dim, tuple(apart), some or self._of_model(indices), function), x)

    def placed(
        self,
        x: Any,
        source: Any,
        dim: int,
        shape: Sequence[int],
        apart: Sequence[int] = (),
        function: Function | None = None,
        adds: bool = False,
    ) -> Value:
        onto = () if x is None else (x,)
        return self._value(p.Scatter(dim, tuple(shape), tuple(apart), function, adds), *onto, source)

    # --- elementwise --------------------------------------------------------------------------------------------

    def add(self, x: Any, y: Any, scale: float = 1.0) -> Value:
        """x + scale·y; what is filled with one number counts as the number."""
        fits = is_value(x) and is_value(y)
        if fits and (number := y.constant_number()) is not None and x.covers(y):
            return self.add_number(x, scale * number)
        if fits and (number := x.constant_number()) is not None and (y.covers(x) or x.covers(y)):
            wide = y if y.covers(x) else self.view(y, Expand(x.shape))
            return self.add_number(self.scaled(wide, scale) if scale != 1 else wide, number)
        return self._value(p.Add(scale), x, y)

    def add_number(self, x: Any, number: float) -> Value:
        return self._value(p.AddNumber(number), x) if number else x

    def scaled(self, x: Any, factor: float) -> Value:
        return x if factor == 1 and is_value(x) else self._value(p.Scale(factor), x)

    def mul(self, x: Any, y: Any, function: Function | None = None) -> Value:
        """x·y; what is filled with one number counts as the number."""
        if function is not None:
            return self._value(p.Multiply(function), x, y)
        if x is y and is_value(x):
            return self.power(x, 2.0)
        fits = is_value(x) and is_value(y)
        for one, other in ((x, y), (y, x)) if fits else ():
            number = other.constant_number()
            if number is not None and math.isfinite(number) and one.covers(other):
                return self.scaled(one, number)
        return self._value(p.Multiply(), x, y)

    def power(self, x: Any, exponent: float, function: Function | None = None) -> Value:
        return self._value(p.Power(exponent, function), x)

    def homogeneous(
        self, x: Any, nonnegative: bool = False, function: Function | None = None, even: bool = False
    ) -> Value:
        return self._value(p.Homogeneous(nonnegative, function, even), x)

    def exponential(self, x: Any) -> Value:
        return self._value(p.Exponential(), x)

    def logarithm(self, x: Any) -> Value:
        return self._value(p.Logarithm(), x)

    def nonlinear(
        self,
        *xs: Any,
        nonnegative: bool = False,
        floor: float | None = None,
        function: Function | None = None,
        parity: int = 0,
    ) -> Value:
        """``parity``: -1 where the function is odd, 1 where it is even."""
        return self._value(p.Nonlinear(nonnegative, floor, function, parity < 0, parity > 0), *xs)

    def larger(self, x: Any, y: Any, largest: bool = True) -> Value:
        """The larger or the smaller of two tensors; with zeros, the positive or the negative part."""
        for one, other in ((x, y), (y, x)) if is_value(x) and is_value(y) else ():
            if other.constant_number() == 0 and one.covers(other):
                return self.homogeneous(one, largest, POSITIVE if largest else NEGATIVE)
        return self._value(p.Maximum(largest), x, y)

    def noise(self, x: Any, function: Function | None = None) -> Value:
        return self._value(p.Noise(function), x)

    def select(
        self, x: Any, y: Any, shape: Sequence[int], function: Function | None = None, mask: Value | None = None
    ) -> Value:
        return self._value(p.Select(tuple(shape), function, None if mask is None else mask.index), x, y)

    def masked(
        self,
        x: Any,
        number: float,
        shape: Sequence[int],
        function: Function | None = None,
        mask: Value | None = None,
        by_place: bool = False,
    ) -> Value:
        return self._value(p.Mask(number, tuple(shape), function, None if mask is None else mask.index, by_place), x)

    # --- along dimensions ---------------------------------------------------------------------------------------

    def contract(self, x: Any, y: Any, how: Contraction, function: Function | None = None) -> Value:
        """A sum of products; of a tensor with itself, entry by entry, a sum of squares."""
        if x is y and is_value(x) and how.x == how.y and not how.windows and set(how.out) <= set(how.x):
            square = self.reduce(self.power(x, 2.0), [d for d, k in enumerate(how.x) if k not in how.out], False, False)
            left = [k for k in how.x if k in how.out]
            order = tuple(left.index(k) for k in how.out)
            return square if order == tuple(range(len(order))) else self.view(square, Permute(order))
        for one, letters, other in ((x, how.x, y), (y, how.y, x)) if is_value(x) and is_value(y) else ():
            number = other.constant_number()
            if number and math.isfinite(number) and not how.windows and function is None:
                return self._summed(one, letters, number, how.sizes(x.shape, y.shape), how.out)
        if not how.windows and function is None:
            for one, other, turned in ((x, y, how), (y, x, Contraction(how.y, how.x, how.out))):
                apart = self._apart_from_numbers(one, other, turned) if is_value(one) and is_value(other) else None
                if apart is not None:
                    return apart
        return self._value(p.Contract(how, function), x, y)

    def _apart_from_numbers(self, x: Value, y: Value, how: Contraction) -> Value | None:
        """The contraction of a concatenation in which some parts are one number: what meets a one is a bias."""
        dim, parts = self._joined.get(x.index, (0, ()))
        letter = how.x[dim] if parts else ""
        numbers = [part.constant_number() for part in parts]
        filled = [number is not None and number != 0 and math.isfinite(number) for number in numbers]
        if not any(filled) or all(filled) or letter in how.out or letter not in how.y:
            return None
        place = how.y.index(letter)
        if y.shape[place] != x.shape[dim]:
            return None
        starts = list(accumulate((part.shape[dim] for part in parts), initial=0))
        groups = [[k] for k, one in enumerate(filled) if one] + [[k for k, one in enumerate(filled) if not one]]
        total: Value | None = None
        for group in reversed(groups):
            met = self.view(y, Take(place, tuple(n for k in group for n in range(starts[k], starts[k + 1]))))
            term = self.contract(self.cat([parts[k] for k in group], dim) if group[1:] else parts[group[0]], met, how)
            total = term if total is None else self.add(total, term)
        return total

    def _summed(self, x: Value, letters: str, number: float, sizes: Mapping[str, int], out: str) -> Value:
        """A sum of products with one number: the sum of the entries, and the number as often as it is met beside."""
        dims = [d for d, k in enumerate(letters) if k not in out]
        total = self.reduce(x, dims, False, False) if dims else x
        left = [k for k in letters if k in out]
        order = tuple(left.index(k) for k in out if k in left)
        turned = self.view(total, Permute(order)) if order != tuple(range(len(order))) else total
        held = dict(zip(letters, x.shape, strict=True))
        beside = self.view(turned, Reshape(tuple(held.get(k, 1) for k in out)))
        counts = [n for k, n in sizes.items() if k not in out and held.get(k, 1) != n]
        return self.view(self._counted(beside, counts, number), Expand(tuple(sizes[k] for k in out)))

    def _counted(self, x: Value, counts: Sequence[int], number: float = 1.0) -> Value:
        """number·x as often as the counts say; what of that the data decide is a number of theirs."""
        decided = [n for n in counts if not self._undecided(n)]
        x = self.scaled(x, number * math.prod(decided))
        return x if len(decided) == len(counts) else self.mul(x, self.constant(()))

    def reduce(self, x: Any, dims: Sequence[int], keepdim: bool, mean: bool, function: Function | None = None) -> Value:
        """The sum or the mean; a sum over as many entries as the data decide is the mean times a number of the data."""
        counts = [n for d, n in enumerate(x.shape) if {d, d - len(x.shape)} & {*dims}] if is_value(x) else []
        if not mean and function is None and any(map(self._undecided, counts)):
            return self._counted(self.reduce(x, dims, keepdim, True), counts)
        return self._value(p.Reduce(tuple(dims), keepdim, mean, function), x)

    def extremum(self, x: Any, dims: Sequence[int], keepdim: bool, largest: bool = True) -> Value:
        return self._value(p.Extremum(tuple(dims), keepdim, largest), x)

    def positions(self, x: Any, dims: Sequence[int], keepdim: bool, function: Function | None = None) -> Value:
        return self._value(p.Positions(tuple(dims), keepdim, function), x)

    def deviation(self, x: Any, dims: Sequence[int], keepdim: bool, correction: float = 1.0) -> Value:
        return self._value(p.Deviation(tuple(dims), keepdim, correction), x)

    def ordered(self, x: Any, dim: int, shape: Sequence[int], function: Function | None = None) -> Value:
        return self._value(p.Order(dim, tuple(shape), function), x)

    def pool(
        self,
        x: Any,
        dims: Sequence[int],
        shape: Sequence[int],
        linear: bool,
        keeps_constants: bool,
        how: Hashable,
        function: Function | None = None,
        signed: bool = False,
    ) -> Value:
        return self._value(p.Pool(tuple(dims), tuple(shape), linear, keeps_constants, how, function, signed), x)

    def normalise(
        self,
        x: Any,
        dims: Sequence[int],
        center: bool,
        broken_by: Breaking | None,
        mean: bool = True,
        function: Function | None = None,
    ) -> Value:
        return self._value(p.Normalise(tuple(dims), center, broken_by, mean, function), x)

    def softmax(
        self,
        x: Any,
        dim: int,
        log: bool = False,
        function: Function | None = None,
        chosen: tuple[int, ...] | None = None,
    ) -> Value:
        return self._value(p.Softmax(dim, log, function, chosen), x)
