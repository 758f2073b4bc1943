"""How each dimension of every tensor transforms when matrices act on whole spaces of channels.

A parameter of shape (rows, columns) carries a matrix along each; sums demand that two tensors carry the same, products
summed over channels that they carry dual ones, norms that it is orthogonal, everything else that it is the identity.
What is left acts on the parameters and changes no output.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from neuralmechanics.symmetry.domains.representation.legwork import Legwork
from neuralmechanics.symmetry.domains.representation.spaces import Leg
from neuralmechanics.symmetry.domains.representation.tensor_type import (
    Carried,
    centred_along,
    narrow,
    places_of,
    plain,
    scaled_hollow,
    shifted_hollow,
    viewed,
)
from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.views import Expand, View

__all__ = ["Transport"]

Shape = tuple[int, ...]
Legs = tuple[Leg | None, ...]


class Transport(Legwork):
    """The interpreter of the primitives (see ``domain.Domain``) that carries whole spaces."""

    # --- rearrangements -----------------------------------------------------------------------------------------

    def view(self, x: Carried, view: View) -> Carried:
        shape = tuple(view.output_shape(x.shape))
        place = places_of(view, x.shape, shape)
        for d, leg in enumerate(x.legs):
            # What is split, merged or cut has no matrix of its own behind it.
            if leg is not None and d not in place:
                self.spaces.fix(leg)
        return viewed(x, view, shape, place)

    def cat(self, xs: Sequence[Carried], dim: int) -> Carried:
        xs = [self._linear(x) for x in xs]
        shape = list(xs[0].shape)
        shape[dim] = sum(x.shape[dim] for x in xs)
        for x in xs:
            self.spaces.fix(x.legs[dim])
        for d in range(len(shape)):
            if d != dim:
                for x in xs[1:]:
                    self.spaces.unite(xs[0].legs[d], x.legs[d])
        return plain(shape, (None if d == dim else leg for d, leg in enumerate(xs[0].legs)), *xs)

    def _aligned(self, x: Carried, shape: Shape) -> Carried:
        return x if len(x.shape) == len(shape) else self.view(x, Expand((1,) * (len(shape) - len(x.shape)) + x.shape))

    # --- elementwise --------------------------------------------------------------------------------------------

    def add(self, x: Carried, y: Carried, scale: float = 1.0) -> Carried:
        if scale == 0:
            return x
        shape = np.broadcast_shapes(x.shape, y.shape)
        centred = centred_along(x, y, scale)
        if scale == 1 and self.position in self._answering:
            self.shears.answer(x, y)
            self.shears.answer(y, x)
        taken = self._taken_back(x, 0), self._taken_back(y, 1)
        x, y = (narrow(self._aligned(self._linear(self._apart(v)), shape)) for v in taken)
        legs: list[Leg | None] = []
        for d, n in enumerate(shape):
            both = x.shape[d] == y.shape[d]
            leg = x.legs[d] or y.legs[d]
            if both:
                self.spaces.unite(x.legs[d], y.legs[d])
            # Along this dimension the other summand is a multiple of the all-ones vector.
            elif n > 1 and leg is not None:
                self._keep_ones(leg)
            legs.append(leg)
        if centred is not None:
            return self._left_by_centring(plain(shape, legs, x, y), centred)
        return replace(plain(shape, legs, x, y), hollow=shifted_hollow(x, y, scale) or shifted_hollow(y, x, scale))

    def add_number(self, x: Carried, number: float, broken_by: Breaking | None = None) -> Carried:
        if number == 0:
            return x
        x = self._linear(x)
        for leg in x.legs:
            if leg is not None:
                self._keep_ones(leg)
        gain = None
        if x.gain is not None and x.gain[1] == 1:
            gain = (replace(x.gain[0], offset=x.gain[0].offset + number), 1.0)
        return replace(plain(x.shape, x.legs, x), gain=gain, same=x.same)

    def scaled(self, x: Carried, factor: float) -> Carried:
        if factor == 1:
            return x
        gain = x.gain
        if gain is not None and gain[1] == 1:
            gain = (replace(gain[0], factor=gain[0].factor * factor, offset=gain[0].offset * factor), 1.0)
        hollow = x.hollow if x.hollow is not None and not x.hollow.shifts else None
        total = None if x.sum_of is None else (*x.sum_of[:2], x.sum_of[2] * factor)
        return replace(x, gain=gain, source=None, hollow=hollow, sum_of=total)

    def mul(self, x: Carried, y: Carried) -> Carried:
        shape = np.broadcast_shapes(x.shape, y.shape)
        x, y = (narrow(self._aligned(self._linear(self._apart(v)), shape)) for v in (x, y))
        if x.gain is not None and y.gain is None:
            x, y = y, x
        legs: list[Leg | None] = []
        for d, n in enumerate(shape):
            one, other = x.legs[d], y.legs[d]
            if x.shape[d] == y.shape[d] and n > 1:
                # No matrix commutes with a product entry by entry; one with a gain is taken into it, as D A D⁻¹.
                self.spaces.fix(other)
                if y.gain is None or y.wide() != [d]:
                    self.spaces.fix(one)
                    one = None
                elif one is not None:
                    one = one.times(*y.gain)
            legs.append(one or (other if x.shape[d] != y.shape[d] else None))
        return replace(plain(shape, legs, x, y), hollow=scaled_hollow(x, y))

    def power(self, x: Carried, exponent: float) -> Carried:
        if exponent == 1:
            return x
        x = self._still(x)
        gain = None if x.gain is None else (x.gain[0], x.gain[1] * exponent)
        carried = frozenset(d for d, leg in enumerate(x.legs) if leg is not None)
        # Squares may still be summed to a length, which rotations keep (``reduce``).
        if exponent == 2 and not x.squares and carried and gain is None:
            return replace(plain(x.shape, x.legs, x), squares=carried)
        return replace(self._ended(x.shape, x), gain=gain, same=x.same)

    def restricted(self, x: Carried, kept: np.ndarray) -> Carried:
        return x

    def homogeneous(self, x: Carried) -> Carried:
        return self._ended(x.shape, x)

    def nonlinear(self, *xs: Carried) -> Carried:
        return self._ended(np.broadcast_shapes(*(x.shape for x in xs)), *xs)

    def larger(self, x: Carried, y: Carried) -> Carried:
        return self.nonlinear(x, y)

    def noise(self, x: Carried) -> Carried:
        return self._ended(x.shape, x)

    # --- sums ---------------------------------------------------------------------------------------------------

    def contract(self, x: Carried, y: Carried, how: Contraction) -> Carried:
        x, y = self._linear(self._apart(x)), self._linear(self._apart(y))
        inner = {w.x for w in how.windows} | {w.kernel for w in how.windows}
        left = dict(zip(how.x, zip(x.shape, x.legs, strict=True), strict=True))
        right = dict(zip(how.y, zip(y.shape, y.legs, strict=True), strict=True))
        out: dict[str, Leg | None] = {}
        for letter in dict.fromkeys(how.x + how.y):
            (n, one), (m, other) = left.get(letter, (1, None)), right.get(letter, (1, None))
            both = letter in left and letter in right and n == m
            # Windows and batch dimensions meet entry by entry: only the identity commutes with that.
            if letter in inner or (letter in how.out and both and n > 1):
                self.spaces.fix(one)
                self.spaces.fix(other)
            elif letter in how.out:
                out[letter] = one or other
            elif both:
                # What is summed against A x transforms with A⁻ᵀ.
                self.spaces.unite(one, other.partner if other is not None else None)
            elif (leg := one or other) is not None:
                self._keep_ones(leg)
        result = plain(how.output_shape(x.shape, y.shape), (out.get(k) for k in how.out), x, y)
        self.shears.note(x, how.x, y, how.y, how, result, self.position)
        self.shears.note(y, how.y, x, how.x, how, result, self.position)
        return result

    def reduce(self, x: Carried, dims: Sequence[int], keepdim: bool, mean: bool) -> Carried:
        bound = {d % len(x.shape) for d in dims} if x.shape else set()
        if x.squares:
            x = replace(x, legs=self._all_but(x, x.squares - bound))
        for d in sorted(bound):
            if (leg := x.legs[d]) is not None:
                if d in x.squares:
                    self.spaces.keep_length(leg)
                else:
                    self._keep_ones(leg)
        kept = [
            (1 if d in bound else n, None if d in bound else leg)
            for d, (n, leg) in enumerate(zip(x.shape, x.legs, strict=True))
        ]
        if not keepdim:
            kept = [pair for d, pair in enumerate(kept) if d not in bound]
        hollow = x.hollow
        if hollow is None or hollow.dim in bound or not (mean or not hollow.shifts):
            hollow = None
        # Dimensions that are gone in front move the one of which the sum is known.
        elif not keepdim:
            hollow = replace(hollow, dim=hollow.dim - sum(d < hollow.dim for d in bound))
        total = [(x, d, 1 / x.shape[d] if mean else 1.0) for d in bound if len(bound) == 1 and x.shape[d]]
        return replace(
            plain([n for n, _ in kept], (leg for _, leg in kept), x), hollow=hollow, sum_of=(*total, None)[0]
        )

    def normalise(self, x: Carried, dims: Sequence[int], center: bool, broken_by: Breaking | None) -> Carried:
        """Lengths, and the mean where it is removed, are kept; other dimensions are told apart."""
        x = self._linear(self._still(x))
        bound = {d % len(x.shape) for d in dims}
        wide = [d for d in sorted(bound) if x.shape[d] > 1]
        legs: list[Leg | None] = list(x.legs)
        for d, leg in enumerate(x.legs):
            if leg is None:
                continue
            # Other dimensions are divided entry by entry by different sizes, with which no matrix commutes.
            if d not in bound or (self._blind and not (center and wide == [d])):
                self.spaces.fix(leg)
                legs[d] = None
            elif self._blind:
                self.spaces.blind_to_ones(leg)
                legs[d] = None
            else:
                self.spaces.keep_length(leg)
                if center:
                    self.spaces.keep_ones(leg)
        out = plain(x.shape, legs, x)
        return self._left_by_centring(out, wide[0]) if center and len(wide) == 1 else out

    def deviation(self, x: Carried, dims: Sequence[int], keepdim: bool) -> Carried:
        bound = [d % len(x.shape) for d in dims]
        out = self.normalise(x, dims, True, None)
        return self.reduce(plain(x.shape, (None if d in bound else leg for d, leg in enumerate(out.legs)), x), bound,
                           keepdim, True)  # fmt: skip

    # --- the rest: nothing passes, or what no operation touches ---------------------------------------------------

    def softmax(self, x: Carried, dim: int, log: bool) -> Carried:
        return self._ended(x.shape, x)

    def extremum(self, x: Carried, dims: Sequence[int], keepdim: bool) -> Carried:
        return self.reduce(self._ended(x.shape, x), dims, keepdim, True)

    def positions(self, x: Carried, dims: Sequence[int], keepdim: bool) -> Carried:
        return self.extremum(x, dims, keepdim)

    def pool(
        self, x: Carried, dims: Sequence[int], shape: Sequence[int], linear: bool, keeps_constants: bool, how: Hashable
    ) -> Carried:
        if not linear:
            return self._ended(shape, x)
        return plain(shape, self._all_but(self._linear(x), dims), x)

    def gather(self, x: Carried, dim: int, index_shape: Sequence[int], index: Any) -> Carried:
        legs = self._all_but(self._linear(x), (dim,))
        shape, none = (*x.shape[:dim], *index_shape, *x.shape[dim + 1 :]), (None,) * len(index_shape)
        out = plain(shape, (*legs[:dim], *none, *legs[dim + 1 :]), x)
        if (h := x.hollow) is not None and h.dim != dim:  # rows that are picked, as by experts, are like all rows
            out = replace(out, hollow=replace(h, dim=h.dim + (len(index_shape) - 1) * (h.dim > dim)))
        return out

    def select(self, x: Carried, y: Carried, shape: Sequence[int]) -> Carried:
        return self._ended(shape, x, y)

    def masked(self, x: Carried, number: float, shape: Sequence[int]) -> Carried:
        return self._ended(shape, x)

    def zero_padded(self, x: Carried, dim: int, before: int, after: int) -> Carried:
        shape = tuple(n + before + after if d == dim else n for d, n in enumerate(x.shape))
        return plain(shape, self._all_but(self._linear(x), (dim,)), x)

    def resized(self, x: Carried, shape: Sequence[int]) -> Carried:
        if len(shape) != len(x.shape):
            return self._ended(shape, x)
        changed = [d for d, n in enumerate(shape) if n != x.shape[d]]
        return plain(shape, self._all_but(self._linear(x), changed), x)

    def spread_along(self, x: Carried, dim: int, apart: Sequence[int] = ()) -> Carried:
        return plain(x.shape, self._all_but(self._linear(x), (dim, *apart)), x)

    def placed(
        self, x: Carried | None, source: Carried, dim: int, shape: Sequence[int], apart: Sequence[int] = ()
    ) -> Carried:
        source = self._linear(source)
        legs = self._all_but(source, (dim, *apart))
        if (*shape[:dim], *shape[dim + 1 :]) != (*source.shape[:dim], *source.shape[dim + 1 :]):
            return self._ended(shape, source, *([x] if x is not None else []))
        if x is None:
            return plain(shape, legs, source)
        before = self._all_but(self._linear(x), (dim, *apart))
        for one, other in zip(before, legs, strict=True):
            self.spaces.unite(one, other)
        return plain(shape, legs, x, source)
