"""Linear constraints on the coefficients of changes: a change that vanishes, is constant, or is a sum of others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from neuralmechanics.symmetry.algebra.linear_system import ConstraintSystem
from neuralmechanics.symmetry.domains.shift.variation import ChangeTerm, by_function, first_entries
from neuralmechanics.symmetry.program.refusals import NotSoughtError
from neuralmechanics.symmetry.program.views import paired_rows, squeezed

__all__ = ["COMBINED_LIMIT", "ShiftConstraints"]

Shape = tuple[int, ...]
COMBINED_LIMIT = 1 << 18  # sums of more coefficients than this are not followed


class ShiftConstraints:
    """The system of constraints, the operation that each comes from, and how changes are written into it.

    ``lenient``: whether sums that are too long to follow are given up rather than taken as fixed.
    """

    def __init__(self, lenient: bool) -> None:
        self.system = ConstraintSystem(traced=False)
        self.cause = self.position = -1
        self.lenient = lenient

    def _vanish(self, terms: Sequence[ChangeTerm]) -> None:
        if len(terms) == 1:
            self.system.add([1], terms[0].ids.reshape(-1, 1), self.cause)
            return
        sizes = np.broadcast_shapes(*(t.ids.shape for t in terms))
        tables = [np.broadcast_to(t.ids, sizes).reshape(-1) for t in terms]
        self.system.add([t.factor for t in terms], np.unique(np.stack(tables, axis=1), axis=0), self.cause)

    def _known(self, terms: Iterable[ChangeTerm]) -> tuple[ChangeTerm, ...]:
        """Terms by what is known of their coefficients: constant dimensions dropped, zeros left out."""
        out = []
        for t in terms:
            ids = squeezed(self.system.resolve(t.ids), t.ids.ndim - 1)
            if t.factor and ids.any():
                out.append(replace(t, ids=ids))
        return tuple(out)

    def _kill(self, terms: Sequence[ChangeTerm], dims: frozenset[int]) -> None:
        """Demands that the terms' sum be constant along ``dims``."""
        for group in by_function(self._known(terms)):
            if any(t.varies & dims for t in group):
                self._vanish(group)
                continue
            if len(group) == 1:
                ids = group[0].ids
                self.system.add([1, -1], paired_rows(ids, first_entries(ids, dims)), self.cause)
                continue
            sizes = list(np.broadcast_shapes(*(t.ids.shape for t in group)))
            first = [1 if d in dims else n for d, n in enumerate(sizes)]
            if first == sizes:
                continue
            tables, factors = [], []
            for t in group:
                full = np.broadcast_to(t.ids, sizes)
                index = tuple(slice(0, 1) if d in dims else slice(None) for d in range(len(sizes)))
                tables += [full.reshape(-1), np.broadcast_to(full[index], sizes).reshape(-1)]
                factors += [t.factor, -t.factor]
            self.system.add(factors, np.unique(np.stack(tables, axis=1), axis=0), self.cause)

    def _combined(self, terms: Iterable[ChangeTerm]) -> tuple[ChangeTerm, ...]:
        """Terms of one function as one term, with new variables for the sums of their coefficients."""
        out = []
        for group in by_function(self._known(terms)):
            if len(group) == 1:
                out.append(group[0])
                continue
            sizes = np.broadcast_shapes(*(t.ids.shape for t in group))
            if math.prod(sizes) > COMBINED_LIMIT:  # too many to follow: nothing is claimed of them
                if self.lenient:
                    raise NotSoughtError(f"a sum of more than {COMBINED_LIMIT:,} coefficients is not followed")
                for t in group:
                    self._vanish([t])
                continue
            table = np.stack([np.broadcast_to(t.ids, sizes).reshape(-1) for t in group], axis=1)
            rows, inverse = np.unique(table, axis=0, return_inverse=True)
            sums = self.system.new(len(rows))
            self.system.add([*(t.factor for t in group), -1.0], np.hstack([rows, sums[:, None]]), self.cause)
            combined = sums[inverse.reshape(-1)].reshape(sizes)
            out.append(replace(group[0], ids=combined, factor=1.0))
        return tuple(out)

    def _summed(self, t: ChangeTerm, bound: frozenset[int], shape: Shape) -> ChangeTerm:
        """New variables for the sums of the coefficients along ``bound``."""
        sizes = [shape[d] if d in bound else n for d, n in enumerate(t.ids.shape[:-1])] + [t.ids.shape[-1]]
        full = np.broadcast_to(t.ids, sizes)
        rest = [d for d in range(full.ndim) if d not in bound]
        table = full.transpose([*rest, *sorted(bound)]).reshape(math.prod(full.shape[d] for d in rest), -1)
        sums = self.system.new(len(table))
        self.system.add([1.0] * table.shape[1] + [-1.0], np.hstack([table, sums[:, None]]), self.cause)
        return replace(t, ids=sums.reshape([1 if d in bound else n for d, n in enumerate(sizes)]))
