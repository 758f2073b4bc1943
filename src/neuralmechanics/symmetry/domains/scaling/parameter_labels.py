"""The labels of parameters: a variable a row and a column, an entry, or a column for each run of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from neuralmechanics.symmetry.domains.scaling.constraints import LabelConstraints
from neuralmechanics.symmetry.domains.scaling.label import Label, LabelTerm
from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.program.attributes.views import Take, View

__all__ = ["ParameterLabels"]

Shape = tuple[int, ...]


class ParameterLabels(LabelConstraints):
    """What each parameter's label is made of, by how the parameter is read (see ``ParameterUses``)."""

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        elementwise: Mapping[str, tuple[int, ...]] | None = None,
        groups: Mapping[str, int] | None = None,
        contracted: Mapping[str, Sequence[tuple[int, ...]]] | None = None,
        single: frozenset[str] = frozenset(),
        pieces: Mapping[str, Sequence[tuple[int, int]]] | None = None,
    ) -> None:
        super().__init__()
        self.shapes = shapes
        self.parameters: dict[str, Label] = {}
        self.breakings: list[tuple[np.ndarray, Breaking]] = []  # variables that a constant such as an eps breaks
        self.elementwise = dict(elementwise or {})  # dimensions along which each entry has a variable of its own
        self.groups = dict(groups or {})
        self.contracted = dict(contracted or {})
        self.single = single  # parameters that one operation reads, directly
        self.pieces = dict(pieces or {})  # runs of rows, each with columns of its own
        self._unread: list[tuple[str, Take]] = []
        self._stacked: dict[str, int] = {}  # parameters read one slice at a time, and along which dimension

    def parameter(self, name: str) -> Label:
        """One variable a row, a column, … ; a variable an entry where only elementwise operations read it."""
        if name not in self.parameters:
            shape = self.shapes[name]
            terms = []
            for position, support in enumerate(self._supports(name, shape)):
                sizes = [n if d in support else 1 for d, n in enumerate(shape)]
                ids = self.system.new(math.prod(sizes)).reshape(sizes)
                terms.append(LabelTerm(Fraction(1), ids, (name, position)))
            groups = self.groups.get(name, 1)
            if groups > 1 and len(terms) > 1:  # grouped convolution: input channels of each group apart
                inner = self.system.new(groups * shape[1]).reshape(groups, shape[1], *(1,) * (len(shape) - 2))
                for position, term in enumerate(terms):
                    if term.ids.shape[1] > 1:
                        terms[position] = replace(term, ids=np.repeat(inner, shape[0] // groups, axis=0))
            if name in self.pieces and len(terms) == 2:
                terms[1] = self._columns_of_runs(name, terms[1])
            else:
                self.gauges.open(name, self._extents(name, terms))
            self.parameters[name] = Label(shape, tuple(terms))
        return self.parameters[name]

    def leave_unread(self) -> None:
        """After the walk: rows and columns that are not read have no label, which their number was only lent for."""
        for name, view in self._unread:
            places = (slice(None),) * view.dim + (np.asarray(view.positions, dtype=np.int64),)
            terms = []
            for term in self.parameters[name].terms:
                ids = term.ids.copy()
                if ids.shape[view.dim] > 1:
                    ids[places] = 0
                terms.append(replace(term, ids=ids))
            self.parameters[name] = replace(self.parameters[name], terms=tuple(terms))

    def _columns_of_runs(self, name: str, columns: LabelTerm) -> LabelTerm:
        """A label a column for each run of rows that data of their own read, and a gauge for each."""
        rows, runs = self.shapes[name][0], self.pieces[name]
        owner = np.zeros(rows, np.int64)  # rows that nothing reads scale with the first run
        for number, (start, stop) in enumerate(runs):
            owner[start:stop] = number
            self.gauges.open(f"{name}[{start}:{stop}]", [1])
        own = [columns.ids.reshape(1, -1), *(self.system.new(columns.ids.size).reshape(1, -1) for _ in runs[1:])]
        return replace(columns, ids=np.concatenate(own)[owner])

    def _run(self, x: Label, name: str, view: Take) -> tuple[LabelTerm, ...] | None:
        """Rows and columns of one of the runs in which a matrix is read."""
        start, stop = view.positions[0], view.positions[0] + len(view.positions)
        if view.dim != 0 or (start, stop) not in self.pieces[name] or view.positions != tuple(range(start, stop)):
            return None
        part = f"{name}[{start}:{stop}]"
        rows, columns = x.terms
        return (
            replace(rows, ids=rows.ids[start:stop], origin=(part, 0)),
            replace(columns, ids=columns.ids[start : start + 1], origin=(part, 1)),
        )

    def _supports(self, name: str, shape: Shape) -> list[tuple[int, ...]]:
        wide = [d for d, n in enumerate(shape) if n > 1]
        if name in self.elementwise:
            return [self.elementwise[name]]
        if len(wide) <= 1:
            return [tuple(wide)]
        if name in self.contracted:
            # Dimensions that a product treats as one have a variable for each joint index: r_(hd), not r_h + r_d.
            return [dims for dims in self.contracted[name] if any(shape[d] > 1 for d in dims)]
        if len(shape) == 3 and len(wide) == 3:  # stacked matrices (experts): rows and columns of each
            # With a label e + r + c the rows of every matrix would have to scale in the same proportions.
            return [(0, 1), (0, 2)]
        return [(d,) for d in wide]

    def _extents(self, name: str, terms: Sequence[LabelTerm]) -> list[int]:
        """For every term but the first, how many numbers it can pass to the first without changing the sum."""
        found = []
        for term in terms[1:]:
            shared = math.prod(min(pair) for pair in zip(terms[0].ids.shape, term.ids.shape, strict=True))
            found.append(self.groups[name] if shared > 1 and name in self.groups else shared)
        return found

    def _sliced(self, x: Label, view: View) -> tuple[LabelTerm, ...]:
        """Terms of one matrix of a parameter that stacks several: each has a gauge of its own."""
        name = next((t.origin[0] for t in x.terms if t.origin), "")
        if not isinstance(view, Take) or len(view.positions) != 1 or x is not self.parameters.get(name):
            return x.terms
        used = not self.gauges.is_open(name, len(x.terms)) and self._stacked.get(name) != view.dim
        if used or name in self.groups or any(t.ids.shape[view.dim] == 1 for t in x.terms):
            return x.terms
        part = f"{name}[{view.dim}: {view.positions[0]}]"
        self.gauges.close(name, len(x.terms))
        self._stacked[name] = view.dim
        if part not in self._stacked:
            self._stacked[part] = view.dim
            matrix = [replace(t, ids=t.ids.take([0], axis=view.dim)) for t in x.terms]
            self.gauges.open(part, self._extents(name, matrix), of_closed=True)
        return tuple(replace(t, origin=(part, k)) for k, t in enumerate(x.terms))
