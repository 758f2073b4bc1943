"""Linear constraints on the labels of tensors: what must vanish, what must be constant along a dimension."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from neuralmechanics.symmetry.algebra.linear_system import ConstraintSystem
from neuralmechanics.symmetry.algebra.rows import unique_rows
from neuralmechanics.symmetry.domains.scaling.indexed_rows import choices_of, lifted, lowered
from neuralmechanics.symmetry.domains.scaling.label import Choice, Label, LabelTerm, linked
from neuralmechanics.symmetry.domains.scaling.redundancy import LabelGauges
from neuralmechanics.symmetry.program.attributes.views import paired_rows, squeezed

__all__ = ["LabelConstraints"]


class LabelConstraints:
    """Demands on labels, as rows of a linear system; what each parameter's label leaves undetermined is fixed once."""

    def __init__(self) -> None:
        self.system = ConstraintSystem()
        self.cause = self.position = -1
        self.gauges = LabelGauges()

    def _compact(self, terms: Iterable[LabelTerm]) -> list[LabelTerm]:
        """Terms by what is known of their variables: constant dimensions and zeros dropped, equal ones added up."""
        out: list[LabelTerm] = []
        for term in terms:
            ids = squeezed(self.system.resolve(term.ids))
            # Variable 0 is the constant zero: such a term says nothing.
            if not ids.any():
                continue
            if term.choice and ids.shape[-1] == 1:
                term, ids = replace(term, choice=None), ids[..., 0]
            for k, other in enumerate(out):
                if (other.ids.shape, other.choice) == (ids.shape, term.choice) and np.array_equal(other.ids, ids):
                    out[k] = replace(other, coefficient=other.coefficient + term.coefficient)
                    break
            else:
                out.append(replace(term, ids=ids))
        return [t for t in out if t.coefficient]

    def _settle(self, terms: Sequence[LabelTerm], dims: frozenset[int]) -> list[LabelTerm]:
        """Demands that Σ terms be constant along ``dims``; returns terms that no longer depend on them."""
        terms = self._compact(terms)
        free = [t for t in terms if not (t.dims() & dims)]
        bound = [t for t in terms if t.dims() & dims]
        # Terms that share no bound dimension vary independently, so that each set is constant by itself.
        for group in linked(bound, dims):
            free += self._settle_group(group, dims, terms)
        return free

    def _settle_group(
        self, group: list[LabelTerm], dims: frozenset[int], context: Sequence[LabelTerm]
    ) -> list[LabelTerm]:
        rank = group[0].ids.ndim
        support = frozenset().union(*(t.dims() for t in group))
        kept = support - dims
        sizes = [max(t.ids.shape[d] for t in group) for d in range(rank)]
        small = [n if d in kept else 1 for d, n in enumerate(sizes)]
        gauged = self.gauges.fixes(group, kept, context, math.prod(small))
        if len(group) == 1 and not gauged:
            first = group[0].ids[tuple(slice(0, 1) if d in dims else slice(None) for d in range(rank))]
            self.system.add([1, -1], paired_rows(group[0].ids, first), self.cause)
            return [replace(group[0], ids=first)]
        # A direction that moves the sum and no total is spent on making the constant zero, with nothing lost.
        constant = np.zeros(small, np.int64) if gauged else self.system.new_sums(math.prod(small)).reshape(small)
        tables = [np.broadcast_to(t.ids, sizes).reshape(-1) for t in group]
        tables.append(np.broadcast_to(constant, sizes).reshape(-1))
        coefficients = [*(t.coefficient for t in group), Fraction(-1)]
        rows = np.stack(tables, axis=1)
        # Rows repeat only where every array is shorter than they are; else sorting them would be for nothing.
        repeated = all(t.ids.size < len(rows) for t in group)
        self.system.add(coefficients, unique_rows(rows) if repeated else rows, self.cause)
        return [] if gauged else [LabelTerm(Fraction(1), constant, self.gauges.name(group))]

    def _vanish(self, terms: Sequence[LabelTerm]) -> None:
        """Demands Σ terms = 0 for every element."""
        terms = self._compact(terms)
        if not terms:
            return
        if len(terms) == 1:
            self.system.add([1], terms[0].ids.reshape(-1, 1), self.cause)
            return
        if len(terms) == 2 and terms[0].coefficient == -terms[1].coefficient:
            first, second = sorted((t.ids for t in terms), key=lambda ids: -ids.size)
            if np.broadcast_shapes(first.shape, second.shape) == first.shape:
                self.system.add([1, -1], paired_rows(first, second), self.cause)
                return
        left = self._settle(terms, frozenset(range(terms[0].ids.ndim)))
        if left:
            self.system.add(
                [t.coefficient for t in left], np.array([[int(t.ids.reshape(-1)[0]) for t in left]]), self.cause
            )

    def _uniform(self, x: Label, dims: Iterable[int]) -> Label:
        """x with its label demanded constant along ``dims``."""
        bound = frozenset(d % len(x.shape) for d in dims)
        (x,), choice = self._lifted(self._choosing_apart(x, bound))
        settled = Label(x.shape, tuple(self._settle(x.terms, bound)))
        return settled if choice is None else lowered(settled, choice)

    def fix(self, *xs: Label) -> None:
        for x in xs:
            (whole,), _ = self._lifted(x)
            self._row_by_row(x)
            self._vanish(whole.terms)
            self._forget(x.terms)

    def _forget(self, terms: Iterable[LabelTerm]) -> None:
        """Settles what is still undetermined in terms that nothing reads any more, the shortest first."""
        for term in sorted(terms, key=lambda t: t.ids.size):
            if self.gauges.spent(term):
                self.system.add([1], term.ids.reshape(-1, 1)[:1], self.cause)

    # --- rows that the data choose ------------------------------------------------------------------------------

    def _lifted(self, *xs: Label) -> tuple[list[Label], Choice | None]:
        """The labels over one more dimension, the rows of the choice that they have in common.

        Without a choice they stay as they are; where choices differ every pair of rows may meet: one label for all.
        """
        found = choices_of(*xs)
        if not found:
            return list(xs), None
        if len(found) > 1:
            return [self._common_row(x) for x in xs], None
        (choice,) = found
        return [lifted(x, choice) for x in xs], choice

    def _common_row(self, x: Label) -> Label:
        """x with one label demanded of all rows that an index picks from."""
        for choice in choices_of(x):
            whole = lifted(x, choice)
            settled = self._settle(whole.terms, frozenset({len(x.shape)}))
            x = lowered(Label(whole.shape, tuple(settled)), choice)
        return x

    def _choosing_apart(self, x: Label, dims: Iterable[int]) -> Label:
        """x with one label for all rows where an index runs along any of ``dims``."""
        met = frozenset(dims)
        return self._common_row(x) if any(met & set(choice.dims) for choice in choices_of(x)) else x

    def _row_by_row(self, *xs: Label) -> None:
        """Notes rows of several tables that must answer each other: no mixing of rows does."""
        terms = [t for x in xs for t in x.terms if t.choice]
        if len(terms) > 1:
            self._stiffen(terms)

    def _stiffen(self, terms: Iterable[LabelTerm]) -> None:
        """Notes that these channels do not mix; nothing to do where only scales are asked for."""
