"""Linear constraints on the coefficients of changes: a change that vanishes, is constant, or is a sum of others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from neuralmechanics.symmetry.algebra.linear_system import ConstraintSystem
from neuralmechanics.symmetry.algebra.rows import distinct_along, unique_rows, unique_rows_inverse
from neuralmechanics.symmetry.domains.shift.variation import ChangeTerm, by_function, first_entries
from neuralmechanics.symmetry.program.attributes.views import paired_rows, squeezed
from neuralmechanics.symmetry.program.refusals import NotSoughtError

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
            # A function that differs along them cannot be constant there: its coefficients must vanish.
            if any(t.varies & dims for t in group):
                self._vanish(group)
                continue
            self._constant(group, dims)

    def _constant(self, group: Sequence[ChangeTerm], dims: frozenset[int]) -> None:
        """Demands that a sum of coefficients be constant along ``dims``, in about as many rows as variables.

        Along a dimension of ``dims`` on which one array alone depends, that array is constant. Along another one, o,
        r_i + c_oi is constant along i where c_oi - c_0i and r_i + c_0i are.
        """
        arrays, factors = self._distinct([t.ids for t in group]), [t.factor for t in group]
        for d in sorted(range(arrays[0].ndim), key=lambda d: d not in dims):
            wide = [k for k, ids in enumerate(arrays) if ids.shape[d] > 1]
            if len(wide) != 1 or (len(arrays) == 1 and d not in dims):
                continue
            ids, first = arrays[wide[0]], first_entries(arrays[wide[0]], frozenset({d}))
            if d in dims:
                self.system.add([1, -1], paired_rows(ids, first), self.cause)
            else:
                self._alike([ids, first], [1.0, -1.0], dims)
            arrays[wide[0]] = first
        self._alike(arrays, factors, dims)

    def _alike(self, arrays: Sequence[np.ndarray], factors: Sequence[float], dims: frozenset[int]) -> None:
        """Σ factor·(array - its first entry along ``dims``) = 0 everywhere, in as few rows as say it."""
        arrays = self._distinct(arrays)
        sizes = np.broadcast_shapes(*(ids.shape for ids in arrays))
        if not any(sizes[d] > 1 for d in dims):
            return
        steps = []
        for ids in arrays:
            full = np.broadcast_to(ids, sizes)
            steps.append(paired_rows(full, first_entries(full, dims)))
        # Two arrays of R and C rows meet in R·C pairs; of these R + C - 1 equations say all.
        if len(steps) == 2:
            self._balanced(steps[0], steps[1], factors)
        else:
            rows = unique_rows(np.concatenate(steps, axis=1))
            self.system.add([f for factor in factors for f in (factor, -factor)], rows, self.cause)

    def _distinct(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The arrays without places, along any dimension, that say what an earlier one says of all of them."""
        out = list(arrays)
        for d in range(out[0].ndim):
            kept = distinct_along(out, d)
            out = [ids if ids.shape[d] in (1, len(kept)) else ids.take(kept, axis=d) for ids in out]
        return out

    def _balanced(self, left: np.ndarray, right: np.ndarray, factors: Sequence[float]) -> None:
        """f·(a - a') + g·(b - b') = 0 for each row (a, a') of ``left`` with the row (b, b') of ``right``.

        A row that several others answer makes these equal. So all rows that are linked by answers are, and one answer
        is left: as many equations as rows differ, where the answers themselves may be as many as pairs of them.
        """
        one, at_left = unique_rows_inverse(left)
        other, at_right = unique_rows_inverse(right)
        count = len(one) + len(other)
        graph = sparse.coo_matrix((np.ones(len(left), dtype=np.int8), (at_left, at_right + len(one))), (count, count))
        _, linked = connected_components(graph, directed=False)
        for steps, sets in ((one, linked[: len(one)]), (other, linked[len(one) :])):
            _, first, inverse = np.unique(sets, return_index=True, return_inverse=True)
            apart = first[inverse] != np.arange(len(steps))
            rows = np.hstack([steps, steps[first[inverse]]])[apart]
            self.system.add([1, -1, -1, 1], rows, self.cause)
        _, first = np.unique(linked[at_left], return_index=True)
        rows = np.hstack([left[first], right[first]])
        self.system.add([factors[0], -factors[0], factors[1], -factors[1]], rows, self.cause)

    def _combined(self, terms: Iterable[ChangeTerm]) -> tuple[ChangeTerm, ...]:
        """Terms of one function as one term, with new variables for the sums of their coefficients."""
        out = []
        for group in by_function(self._known(terms)):
            if len(group) == 1:
                out.append(group[0])
                continue
            sizes = np.broadcast_shapes(*(t.ids.shape for t in group))
            if math.prod(sizes) > COMBINED_LIMIT:  # too many to follow: nothing is claimed of them
                # Taken as fixed they would be reported as certainly free of symmetry, which nobody has looked at.
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
