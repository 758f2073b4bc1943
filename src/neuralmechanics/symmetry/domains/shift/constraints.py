"""Linear constraints on the coefficients of changes: a change that vanishes, is constant, or is a sum of others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from neuralmechanics.symmetry.algebra.linear_system import ConstraintSystem
from neuralmechanics.symmetry.algebra.rows import unique_rows, unique_rows_inverse
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
        arrays = self._apart([t.ids for t in terms])
        sizes = np.broadcast_shapes(*(ids.shape for ids in arrays))
        tables = [np.broadcast_to(ids, sizes).reshape(-1) for ids in arrays]
        self.system.add([t.factor for t in terms], unique_rows(np.stack(tables, axis=1)), self.cause)

    def _apart(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Arrays whose sum, with factors, vanishes: what one alone depends on it must be constant along.

        r_i + c_j = 0 for all i and j says r_i = r_0, c_j = c_0 and r_0 + c_0 = 0: as many rows as variables.
        """
        out = list(arrays)
        for d in range(out[0].ndim):
            wide = [k for k, ids in enumerate(out) if ids.shape[d] > 1]
            if len(wide) == 1:
                ids, first = out[wide[0]], first_entries(out[wide[0]], frozenset({d}))
                self.system.add([1, -1], paired_rows(ids, first), self.cause)
                out[wide[0]] = first
        return out

    def _known(self, terms: Iterable[ChangeTerm]) -> tuple[ChangeTerm, ...]:
        """Terms by what is known of their coefficients: constant dimensions dropped, zeros left out."""
        out = []
        for t in terms:
            if not t.factor:
                continue
            if t.seen is not None and t.seen.ids is t.ids and self.system.stands(t.seen):
                out.append(t)  # a stream of many summands is looked at by each reader, and most of it stays as it is
                continue
            ids = squeezed(self.system.resolve(t.ids), t.ids.ndim - 1)
            if ids.any():
                out.append(replace(t, ids=ids, seen=self.system.seen(ids)))
        return tuple(out)

    def _kill(self, terms: Sequence[ChangeTerm], dims: frozenset[int]) -> None:
        """Demands that the terms' sum be constant along ``dims``."""
        moving = [t for t in terms if (t.varies | t.pattern) & dims]
        for group in by_function(self._known(moving)):
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
            self.system.add(factors, unique_rows(np.stack(tables, axis=1)), self.cause)

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
            rows, inverse = unique_rows_inverse(table)
            sums = self.system.new(len(rows))
            self.system.add([*(t.factor for t in group), -1.0], np.hstack([rows, sums[:, None]]), self.cause)
            combined = sums[inverse].reshape(sizes)
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
