"""Slice sums of gradients and slice inner products ⟨θ, g⟩ as matrices: one row a gradient, one column a slice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.diagnostics.probing.gradients import Sample
from neuralmechanics.slices import SliceView, slice_products, slice_sums, spread

__all__ = ["Slices", "Table", "element_sizes", "tabulate"]


@dataclass(frozen=True, eq=False)
class Slices:
    """Every slice of every parameter along one dimension, numbered through all views."""

    views: tuple[SliceView, ...]

    @classmethod
    def of(cls, params: Mapping[str, Tensor]) -> Slices:
        """Rows, columns, and whatever other dimensions there are; a number is its own slice."""
        views = []
        for name, p in params.items():
            fixed: list[tuple[int, ...]] = [(d,) for d in range(p.ndim) if p.shape[d] > 1] or [()]
            views += [SliceView(name, tuple(p.shape), kept) for kept in fixed]
        return cls(tuple(views))

    @property
    def count(self) -> int:
        """Number of slices."""
        return sum(view.size for view in self.views)

    def identities(self) -> np.ndarray:
        """Relations that hold for any tensor: its rows add up to the same as its columns; [identities, slices]."""
        first: dict[str, slice] = {}
        rows, start = [], 0
        for view in self.views:
            here = slice(start, start + view.size)
            start = here.stop
            if view.parameter in first:
                row = np.zeros(self.count)
                row[first[view.parameter]], row[here] = 1.0, -1.0
                rows.append(row)
            first.setdefault(view.parameter, here)
        return np.array(rows).reshape(-1, self.count)

    def elements(self, coefficients: np.ndarray) -> dict[str, np.ndarray]:
        """What a relation does to each element of each parameter: the sum of the coefficients of its slices."""
        out: dict[str, np.ndarray] = {}
        start = 0
        for view in self.views:
            values = torch.as_tensor(coefficients[start : start + view.size], dtype=torch.float64)
            start += view.size
            added = spread(values, view).expand(view.shape).numpy()
            out[view.parameter] = out[view.parameter] + added if view.parameter in out else added
        return out

    def label(self, number: int) -> str:
        """The slice in words, such as ``0.weight[:, 3]``."""
        for view in self.views:
            if number < view.size:
                entries = [str(number) if d in view.kept else ":" for d in range(len(view.shape))]
                return view.parameter + (f"[{', '.join(entries)}]" if entries else "")
            number -= view.size
        raise IndexError("no such slice")

    def parameter(self, number: int) -> tuple[str, tuple[int, ...]]:
        """The parameter that a slice belongs to, and the dimension that it fixes."""
        for view in self.views:
            if number < view.size:
                return view.parameter, view.kept
            number -= view.size
        raise IndexError("no such slice")


@dataclass(frozen=True, eq=False)
class Table:
    """Sums (and, beside them, sums of absolute values) over every slice for every sample."""

    values: np.ndarray  # [samples, slices]
    sizes: np.ndarray


def element_sizes(samples: Iterable[Sample]) -> dict[str, Tensor]:
    """The greatest |g| that each element shows in any sample; the greatest of all elements is one in each sample."""
    greatest: dict[str, Tensor] = {}
    for sample in samples:
        for name, g in sample.gradient.items():
            greatest[name] = torch.maximum(greatest[name], g.abs()) if name in greatest else g.abs()
    return greatest


def tabulate(slices: Slices, samples: Sequence[Sample], heard: Mapping[str, Tensor]) -> tuple[Table, Table]:
    """Tables of Σ g and of Σ θ g over every slice, over the elements that are heard (that have a gradient at all)."""
    rows: list[list[np.ndarray]] = [[], [], [], []]
    for sample in samples:
        g = {name: torch.where(heard[name], part, 0.0) for name, part in sample.gradient.items()}
        theta = {name: value.double() for name, value in sample.params.items()}
        pieces: list[list[Tensor]] = [[], [], [], []]
        for view in slices.views:
            own, at = g[view.parameter], theta[view.parameter]
            pieces[0] += slice_sums(own, [view])
            # What a sum is judged by: one that is small beside its terms has cancelled.
            pieces[1] += slice_sums(own.abs(), [view])
            pieces[2] += slice_products(at, own, [view])
            pieces[3] += slice_products(at.abs(), own.abs(), [view])
        for row, piece in zip(rows, pieces, strict=True):
            row.append(torch.cat(piece).numpy())
    stacked = [np.stack(row) for row in rows]
    return Table(stacked[0], stacked[1]), Table(stacked[2], stacked[3])
