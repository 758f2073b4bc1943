"""Linear constraints on the labels of tensors: what must vanish, what must be constant along a dimension."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from neuralmechanics.symmetry.constraints import ConstraintSystem
from neuralmechanics.symmetry.label_gauges import LabelGauges
from neuralmechanics.symmetry.scale_labels import Label, LabelTerm, linked
from neuralmechanics.symmetry.views import paired_rows, squeezed

__all__ = ["LabelConstraints"]


class LabelConstraints:
    """Demands on labels, as rows of a linear system; what each parameter's label leaves undetermined is fixed once."""

    def __init__(self) -> None:
        self.system = ConstraintSystem()
        self.cause = -1
        self.gauges = LabelGauges()

    def _compact(self, terms: Iterable[LabelTerm]) -> list[LabelTerm]:
        """Terms by what is known of their variables: constant dimensions and zeros dropped, equal ones added up."""
        out: list[LabelTerm] = []
        for term in terms:
            ids = squeezed(self.system.resolve(term.ids))
            if not ids.any():
                continue
            for k, other in enumerate(out):
                if other.ids.shape == ids.shape and np.array_equal(other.ids, ids):
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
        gauged = self.gauges.fixes(group, kept, context)
        if len(group) == 1 and not gauged:
            first = group[0].ids[tuple(slice(0, 1) if d in dims else slice(None) for d in range(rank))]
            self.system.add([1, -1], paired_rows(group[0].ids, first), self.cause)
            return [replace(group[0], ids=first)]
        small = [n if d in kept else 1 for d, n in enumerate(sizes)]
        constant = np.zeros(small, np.int64) if gauged else self.system.new(math.prod(small)).reshape(small)
        tables = [np.broadcast_to(t.ids, sizes).reshape(-1) for t in group]
        tables.append(np.broadcast_to(constant, sizes).reshape(-1))
        coefficients = [*(t.coefficient for t in group), Fraction(-1)]
        rows = np.stack(tables, axis=1)
        repeated = all(t.ids.size < len(rows) for t in group)
        self.system.add(coefficients, np.unique(rows, axis=0) if repeated else rows, self.cause)
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
        return Label(x.shape, tuple(self._settle(x.terms, frozenset(d % len(x.shape) for d in dims))))

    def fix(self, *xs: Label) -> None:
        for x in xs:
            self._vanish(x.terms)
