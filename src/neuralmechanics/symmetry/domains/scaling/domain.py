"""Scales: every tensor carries, for each element, the logarithm of the factor it is multiplied by.

A label is a sum of terms, each a compressed array of variables times a rational coefficient; a parameter of shape
(rows, columns) has label r_i + c_j. Operations add linear constraints; the null space is the algebra of all scale and
rescale symmetries.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from neuralmechanics.symmetry.algebra.sets import distinct
from neuralmechanics.symmetry.domains.scaling.contractions import Contractions
from neuralmechanics.symmetry.domains.scaling.indexed_rows import choices_of, chosen, lowered, viewed_chosen
from neuralmechanics.symmetry.domains.scaling.label import Label, LabelTerm, apart, simpler, without_dims
from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.program.attributes.views import Expand, Take, View, paired_rows

__all__ = ["Scales"]

Shape = tuple[int, ...]
JOINED_LIMIT = 1 << 16  # entries along a concatenated dimension, times rows, up to which the rows stay apart
_APART = 1 << 16  # zeros beside a single entry up to which each has a label of its own


class Scales(Contractions):
    """The scale interpreter of the primitives (see ``domain.Domain``)."""

    # --- leaves -------------------------------------------------------------------------------------------------

    def constant(self, shape: Sequence[int]) -> Label:
        return Label(tuple(shape))

    def unread(self, name: str, view: Take) -> None:
        """Entries of a parameter that no output depends on do not scale: any change of them is a translation.

        Rows and columns that are not read scale as one that is, so that they count for nothing of their own.
        """
        label = self.parameter(name)
        if len(label.terms) == 1:
            self.fix(self.view(Label(label.shape, label.terms), view))
            return
        read = next((k for k in range(label.shape[view.dim]) if k not in view.positions), 0)
        for term in label.terms:
            if term.ids.shape[view.dim] > 1:
                dead = term.ids.take(np.asarray(view.positions, dtype=np.int64), axis=view.dim)
                self.system.add([1, -1], paired_rows(dead, term.ids.take([read], axis=view.dim)), self.cause)
        self._unread.append((name, view))

    def moves(self, x: Label) -> bool:
        """Whether anything is left of the label after what is known by now."""
        return bool(x.terms) and bool(self._compact(x.terms))

    # --- primitives ---------------------------------------------------------------------------------------------

    def view(self, x: Label, view: View) -> Label:
        name = next((t.origin[0] for t in x.terms if t.origin), "")
        if isinstance(view, Take) and name in self.pieces and x is self.parameters[name]:
            run = self._run(x, name, view)
            if run is not None:
                return Label(tuple(view.output_shape(x.shape)), run)
        terms = []
        for t in self._sliced(x, view):
            moved = viewed_chosen(t, view, x.shape) if t.choice else replace(t, ids=view.apply(t.ids, x.shape))
            if moved is None:  # dimensions of an index merged with others
                return self.view(self._common_row(x), view)
            terms.append(moved)
        return Label(tuple(view.output_shape(x.shape)), tuple(terms))

    def cat(self, xs: Sequence[Label], dim: int) -> Label:
        shape = list(xs[0].shape)
        shape[dim] = sum(x.shape[dim] for x in xs)
        if not any(x.terms for x in xs):
            return Label(tuple(shape))
        rows = max((choice.rows for choice in choices_of(*xs)), default=1)
        # A variable for each row and channel would be too many, or rows are picked along what is joined: one for all.
        if rows * shape[dim] > JOINED_LIMIT or any(dim in choice.dims for choice in choices_of(*xs)):
            xs = [self._common_row(x) for x in xs]
        parts, choice = self._lifted(*xs)
        parts, common = (
            (parts, ()) if choice else apart([replace(x, terms=(*self._compact(x.terms),)) for x in parts], dim)
        )
        if not any(x.terms for x in parts):
            return Label(tuple(shape), common)
        columns = [self._single(x, choice is not None) for x in parts]
        sizes = [max(c.shape[d] for c in columns) for d in range(columns[0].ndim)]
        pieces = []
        for x, ids in zip(xs, columns, strict=True):
            sizes[dim] = x.shape[dim]
            pieces.append(np.broadcast_to(ids, sizes))
        joined = (LabelTerm(Fraction(1), np.concatenate(pieces, axis=dim)), *common)
        return Label(tuple(shape), joined) if choice is None else lowered(Label((*shape, rows), joined), choice)

    def _single(self, x: Label, lifted: bool) -> np.ndarray:
        """The label as one array of variables; where ``lifted``, its last dimension is that of rows the data choose.

        What rows and channels have in common is given to the channels, which stand beside others from now on.
        """
        terms = self._compact(x.terms)
        if not terms:
            return np.zeros((1,) * len(x.shape), np.int64)
        if len(terms) == 1 and terms[0].coefficient == 1:
            return terms[0].ids
        self._forget([t for t in terms if lifted and t.ids.shape[-1] > 1])
        self._forget(terms)
        sizes = [max(t.ids.shape[d] for t in terms) for d in range(len(x.shape))]
        ids = self.system.new(math.prod(sizes)).reshape(sizes)
        tables = [np.broadcast_to(t.ids, sizes).reshape(-1) for t in terms] + [ids.reshape(-1)]
        self.system.add([*(t.coefficient for t in terms), -1], np.stack(tables, axis=1), self.cause)
        return ids

    def add(self, x: Label, y: Label, scale: float = 1.0) -> Label:
        """A sum scales only when both summands scale alike."""
        if scale == 0:
            return x
        shape = np.broadcast_shapes(x.shape, y.shape)
        x, y = self._aligned(x, shape), self._aligned(y, shape)
        if not x.terms and not y.terms:
            return Label(shape)
        self._row_by_row(x, y)
        (x, y), choice = self._lifted(x, y)
        left, right = x.terms, y.terms
        self._vanish([*left, *(replace(t, coefficient=-t.coefficient) for t in right)])
        both = Label(x.shape, left if simpler(left, right) else right)
        return both if choice is None else lowered(both, choice)

    def _aligned(self, x: Label, shape: Shape) -> Label:
        if x.shape == shape:
            return x
        return self.view(x, Expand(shape))

    def add_number(self, x: Label, number: float, broken_by: Breaking | None = None) -> Label:
        if number == 0 or not x.terms:
            return x
        if broken_by is not None:
            self._breaks(x.terms, broken_by)
            return _made_of(x)
        self.fix(x)
        return Label(x.shape)

    def _breaks(self, terms: Sequence[LabelTerm], broken_by: Breaking) -> None:
        for term in terms:
            self.breakings.append((distinct(term.ids), broken_by))

    def scaled(self, x: Label, factor: float) -> Label:
        return x

    def mul(self, x: Label, y: Label) -> Label:
        shape = np.broadcast_shapes(x.shape, y.shape)
        x, y = self._aligned(x, shape), self._aligned(y, shape)
        # Rows of two indices may meet in any pair, so that all of a table must scale alike.
        if len(choices_of(x, y)) > 1:
            x, y = self._common_row(x), self._common_row(y)
        return Label(shape, tuple(self._compact([*x.terms, *y.terms])))

    def power(self, x: Label, exponent: float) -> Label:
        factor = Fraction(exponent).limit_denominator(1 << 20)
        # The algebra is exact: an exponent that is no simple fraction has no place in it.
        if float(factor) != exponent:
            self.fix(x)
            return Label(x.shape)
        # |a·x|^p = a^p |x|^p for a > 0; the power 0, a sign, does not see a at all.
        terms = tuple(replace(t, coefficient=t.coefficient * factor) for t in x.terms)
        return Label(x.shape, terms if factor else ())

    def restricted(self, x: Label, kept: np.ndarray) -> Label:
        """Labels stay: those of single entries that do not matter adapt to whatever is asked of them."""
        return x

    def homogeneous(self, x: Label) -> Label:
        return _made_of(x)

    def nonlinear(self, *xs: Label) -> Label:
        self.fix(*xs)
        return Label(np.broadcast_shapes(*(x.shape for x in xs)))

    def larger(self, x: Label, y: Label) -> Label:
        """The elementwise maximum or minimum of two tensors."""
        # max(a·x, a·y) = a·max(x, y) for a > 0; with different factors it is no multiple.
        return self.add(x, y)

    def noise(self, x: Label) -> Label:
        return _made_of(x)

    def reduce(self, x: Label, dims: Sequence[int], keepdim: bool, mean: bool) -> Label:
        # Σ a_k x_k is a multiple of Σ x_k where all a_k are equal.
        return without_dims(self._uniform(x, dims), dims, keepdim)

    def extremum(self, x: Label, dims: Sequence[int], keepdim: bool) -> Label:
        return self.reduce(x, dims, keepdim, True)

    def pool(
        self, x: Label, dims: Sequence[int], shape: Sequence[int], linear: bool, keeps_constants: bool, how: Hashable
    ) -> Label:
        settled = self._uniform(x, dims)
        return Label(tuple(shape), settled.terms)

    def normalise(self, x: Label, dims: Sequence[int], center: bool, broken_by: Breaking | None) -> Label:
        """What scales alike over the normalised dimensions is divided out."""
        settled = self._uniform(x, dims)
        if broken_by is not None:
            self._breaks(settled.terms, broken_by)
        # The label ends here: a redundant direction that only it still showed must be fixed now, or it would count.
        self._forget(settled.terms)
        return Label(x.shape)

    def softmax(self, x: Label, dim: int, log: bool) -> Label:
        self.fix(x)
        return Label(x.shape)

    def gather(self, x: Label, dim: int, index_shape: Sequence[int], index: Any) -> Label:
        return chosen(self._common_row(x), dim, index_shape, index)

    def select(self, x: Label, y: Label, shape: Sequence[int]) -> Label:
        out = self.add(x, y)
        return self._aligned(out, tuple(shape))

    def masked(self, x: Label, number: float, shape: Sequence[int]) -> Label:
        """Some entries replaced by a number: zero and the infinities scale with anything."""
        if number == 0 or math.isinf(number):
            return _made_of(self._aligned(x, tuple(shape)))
        self.fix(x)
        return Label(tuple(shape))

    def zero_padded(self, x: Label, dim: int, before: int, after: int) -> Label:
        """Zeros around the data scale with anything: apart from each other where entries along ``dim`` are.

        Zeros beside a single entry (one row of a stack of vectors) do not scale as it does, nor as one another. Where
        entries scale alike, or may still be shared out anew among the terms, zeros take the nearest entry's label.
        """
        shape = tuple(n + before + after if d == dim else n for d, n in enumerate(x.shape))
        x, n = self._common_row(x), x.shape[dim]
        compact = self._compact(x.terms)
        wide = [t for t in compact if t.ids.shape[dim] > 1]
        inward = before < 0 or after < 0
        settled = compact and not inward and not any(self.gauges.shifts([t]) for t in compact)
        if n == 1 and settled and (before + after) * max(t.ids.size for t in compact) <= _APART:
            return self._beside_zeros(shape, dim, before, compact, ())
        if wide and not inward and not any(self.gauges.shifts([t]) for t in wide):
            return self._beside_zeros(shape, dim, before, wide, [t for t in compact if t.ids.shape[dim] == 1])
        places = [min(max(k, 0), n - 1) for k in range(-before, n + after)]
        terms = tuple(t if t.ids.shape[dim] == 1 else replace(t, ids=t.ids.take(places, axis=dim)) for t in x.terms)
        return Label(shape, terms)

    def _beside_zeros(
        self, shape: Shape, dim: int, before: int, terms: Sequence[LabelTerm], even: Sequence[LabelTerm]
    ) -> Label:
        """The label of entries along ``dim`` between zeros with labels of their own; ``even`` terms reach the zeros."""
        sizes = list(np.broadcast_shapes(*(t.ids.shape for t in terms)))
        within, sizes[dim] = sizes[dim], shape[dim] - sizes[dim]
        if math.prod(sizes) > _APART:  # one at each place
            sizes = [size if d == dim else 1 for d, size in enumerate(sizes)]
        zeros = self.system.new(math.prod(sizes)).reshape(sizes)
        own = LabelTerm(Fraction(1), np.insert(zeros, [before] * within, 0, axis=dim))
        margin = [(before, shape[dim] - within - before) if d == dim else (0, 0) for d in range(len(shape))]
        return Label(shape, (*(replace(t, ids=np.pad(t.ids, margin)) for t in terms), *even, own))

    def resized(self, x: Label, shape: Sequence[int]) -> Label:
        """The same labels for a tensor of another size along dimensions where they are constant."""
        return Label(tuple(shape), self._common_row(x).terms)

    def deviation(self, x: Label, dims: Sequence[int], keepdim: bool) -> Label:
        """The standard deviation over ``dims``."""
        return self.reduce(x, dims, keepdim, True)

    def paired(self, x: Label, first: Sequence[int], second: Sequence[int]) -> None:
        """Scales of the two parts of a complex number are found equal by what turns them."""

    def positions(self, x: Label, dims: Sequence[int], keepdim: bool) -> Label:
        """Where the extremum over ``dims`` stands."""
        return self.reduce(x, dims, keepdim, True)

    def spread_along(self, x: Label, dim: int, apart: Sequence[int] = ()) -> Label:
        """Entries along ``dim`` in places that only the data know."""
        return self._uniform(self._common_row(x), (dim,))

    def placed(
        self, x: Label | None, source: Label, dim: int, shape: Sequence[int], apart: Sequence[int] = ()
    ) -> Label:
        """``source`` put into, or added to, places of x (None: zeros) along ``dim``."""
        source = self.resized(self._uniform(source, (dim,)), shape)
        return source if x is None else self.add(self._uniform(x, (dim,)), source)


def _made_of(x: Label) -> Label:
    """The same label for what was made of x: no longer that of a parameter, which a product might read directly.

    A parameter's labels are written anew where a product reads it (``_answering``); what was noted of them before, that
    channels do not mix or that a constant breaks them, would be noted of variables that nothing refers to any more.
    """
    return Label(x.shape, x.terms)
