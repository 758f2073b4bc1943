"""What became of every parameter: covered, free of symmetry, not sought, unknown, unused or frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import fx

from neuralmechanics.symmetry.algebra.linear_system import NullSpace
from neuralmechanics.symmetry.domains.lenient import Lenient
from neuralmechanics.symmetry.domains.scaling.domain import Scales
from neuralmechanics.symmetry.domains.shift.domain import Shifts
from neuralmechanics.symmetry.families.family import Family
from neuralmechanics.symmetry.families.symmetries import Coverage
from neuralmechanics.symmetry.lowering.capture.captured import Captured, operation_name, place
from neuralmechanics.symmetry.lowering.capture.in_place import is_in_place
from neuralmechanics.symmetry.passes.facts.parameter_uses import ParameterUses
from neuralmechanics.symmetry.program.interpret import interpret
from neuralmechanics.symmetry.program.program import Program
from neuralmechanics.symmetry.program.refusals import Reason

__all__ = ["coverage_of"]


def coverage_of(
    captured: Captured,
    program: Program,
    read: ParameterUses,
    families: Sequence[Family],
    scales: Scales,
    space: NullSpace,
) -> tuple[Coverage, ...]:
    """What became of every parameter, and of those without a symmetry the operation that ended it.

    ``scales`` and ``space`` are those of the ordinary walk. Parameters without a family are looked at once more by
    lenient walks: free is what does not move in those either and is not hidden from the output.
    """
    by_parameter: dict[str, list[str]] = {}
    for family in families:
        for name in family.parameters:
            by_parameter.setdefault(name, []).append(family.name)
    # Two more walks cost as much as the search: only for parameters of which nothing has been found.
    left = [name for name in captured.shapes if name not in by_parameter and name in scales.parameters]
    reasons = _reasons(captured, program, read, left) if left else {}
    nodes = list(captured.graph.nodes)
    out = []
    for name in captured.shapes:
        if name in by_parameter:
            out.append(Coverage(name, "covered", tuple(by_parameter[name])))
        elif name not in scales.parameters:
            out.append(Coverage(name, "unused"))
        elif (reason := reasons.get(name)) is not None:
            out.append(Coverage(name, reason.status, (), reason.where, reason.text))
        else:
            cause = space.cause([term.ids for term in scales.parameters[name].terms])
            node = nodes[cause] if cause is not None and cause < len(nodes) else None
            out.append(Coverage(name, "free", (), _described(node)))
    out += [Coverage(name, "frozen") for name in captured.frozen]
    return tuple(out)


def _described(node: fx.Node | None) -> str:
    if node is None or node.op == "output":
        return "the output"
    return f"{operation_name(node)} at {place(node)}"


def _reasons(captured: Captured, program: Program, read: ParameterUses, names: Sequence[str]) -> Mapping[str, Reason]:
    """For each of the parameters that is not shown to be free, what keeps it from being so."""
    scales = Scales(captured.shapes, read.elementwise, read.groups, read.contracted, read.single, read.pieces)
    shifts = Shifts(captured.shapes, complex=captured.complex, single=read.single, lenient=True)
    notes = [Lenient(scales, program), Lenient(shifts, program)]
    for lenient in notes:
        interpret(program, lenient.domain, lenient.step)
    scaled = _Moves(scales.system.solve())
    shifted = _Moves(shifts.system.solve(shifts.read()))
    way = _Ways(captured, notes)
    out: dict[str, Reason] = {}
    for name in names:
        label = scales.parameters[name]
        terms = [(t.ids, float(t.coefficient)) for t in label.terms]
        moves = scaled.any(terms, label.shape) or any(shifted.any([(i, 1.0)], ()) for i in shifts.parameters[name])
        coarse = shifts.coarse(name)
        if moves or way.hidden(name):
            out[name] = way.reason(name)
        elif coarse:
            out[name] = Reason("not sought", way.first(name), coarse)
    return out


@dataclass(frozen=True, eq=False)
class _Moves:
    """One generic solution of a walk's constraints."""

    space: NullSpace

    def __post_init__(self) -> None:
        # A generic combination: a sum that vanishes for it vanishes, but by chance, for every vector of the space.
        draw = np.random.default_rng(0).uniform(1.0, 2.0, self.space.count)
        values = np.asarray(self.space.distinct @ draw).reshape(-1)
        object.__setattr__(self, "values", values)

    def any(self, terms: Sequence[tuple[np.ndarray, float]], shape: Sequence[int]) -> bool:
        """Whether the sum of the terms differs from zero anywhere."""
        values: np.ndarray = self.values  # type: ignore[attr-defined]
        place = self.space.place
        total: Any = np.zeros((1,) * len(shape))
        for ids, factor in terms:
            total = total + factor * values[place[ids]]
        return bool((np.abs(total) > 1e-9).any())


class _Ways:
    """The paths from parameters to the outputs, with what lenient walks met there."""

    def __init__(self, captured: Captured, notes: Sequence[Lenient]) -> None:
        self._nodes = list(captured.graph.nodes)
        self._places = {captured.parameters[n.name]: n for n in self._nodes if n.name in captured.parameters}
        self._met: dict[fx.Node, Reason] = {}
        # The reasons of the first walk, for scales, stand before those of the second.
        for lenient in reversed(notes):
            self._met |= {self._nodes[k]: r for k, r in lenient.met.items() if k < len(self._nodes)}
        self._readers = _readers(self._nodes)
        hidden = set.union(*(lenient.hidden for lenient in notes))
        self._shown = self._reaching(captured.outputs, {self._nodes[k] for k in hidden if k < len(self._nodes)})

    def _reaching(self, outputs: Sequence[fx.Node], closed: set[fx.Node]) -> set[fx.Node]:
        """The nodes with a path to an output on which no operation is closed."""
        shown: set[fx.Node] = set()
        for node in reversed(self._nodes):
            open_end = node in outputs or any(u in shown for u in self._readers.get(node, ()))
            if open_end and node not in closed:
                shown.add(node)
        return shown

    def hidden(self, name: str) -> bool:
        return self._places[name] not in self._shown

    def reason(self, name: str) -> Reason:
        """The first operation behind the parameter that is not followed."""
        reached = {self._places[name]}
        for node in self._nodes:
            if node not in reached:
                continue
            if node in self._met:
                return self._met[node]
            reached.update(self._readers.get(node, ()))
        return Reason("not sought", self.first(name), "its symmetry depends on operations beside its way")

    def first(self, name: str) -> str:
        """The operation that reads the parameter first."""
        readers = self._readers.get(self._places[name])
        return _described(readers[0] if readers else None)


def _readers(nodes: Sequence[fx.Node]) -> dict[fx.Node, list[fx.Node]]:
    """Who reads each node; what is written in place is read by all that read it afterwards."""
    readers: dict[fx.Node, list[fx.Node]] = {}
    written: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        for operand in node.all_input_nodes:
            readers.setdefault(written.get(operand, operand), []).append(node)
        # From here on the old name stands for what was written, as it does when the graph is run.
        if is_in_place(node) and isinstance(node.args[0], fx.Node):
            written[node.args[0]] = node
    return readers
