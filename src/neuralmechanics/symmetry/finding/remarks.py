"""What is said beside families: what they require of modes, rows and buffers, and how the graph was captured."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from neuralmechanics.slices import SliceTerm
from neuralmechanics.symmetry.families.family import Family
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.passes.model_entries.known_rows import KnownRows
from neuralmechanics.symmetry.passes.normal_forms.known_factors import KnownFactors
from neuralmechanics.symmetry.passes.zeros.zero_factors import ZeroFactors
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.conditions import BatchStatistics, PaddingRow, SeenKeys, SingleEntry
from neuralmechanics.symmetry.program.program import Program


def requirements(captured: Captured, program: Program) -> tuple[str, ...]:
    modes = {c.place: c.used for c in program.conditions if isinstance(c, BatchStatistics)}
    if not any(modes.values()):
        return captured.requirements()
    training = [where for where, mode in modes.items() if mode]
    shown = ", ".join(training[:3]) + (f" and {len(training) - 3} more" if len(training) > 3 else "")
    mixed = "" if all(modes.values()) else f" of {shown}"
    return (f"training mode (batch statistics){mixed}", *captured.requirements())


def with_padding_rows(families: list[Family], program: Program) -> list[Family]:
    """Families that move an embedding's padding row, which gets no gradient: what makes up for it is said."""
    rows: dict[str, set[int]] = {}
    makers = program.makers()
    for condition in (c for c in program.conditions if isinstance(c, PaddingRow)):
        table = makers[condition.table].primitive
        if isinstance(table, p.Parameter):
            rows.setdefault(table.name, set()).add(condition.row)
    if not rows:
        return families
    padded = []
    for family in families:
        # A factor leaves zeros as they are, a shift does not.
        needed = "row {} of {} (padding) is zero" if family.quadratic else "the batch takes no row {} of {} (padding)"
        texts = [needed.format(k, name) for name in family.parameters for k in sorted(rows.get(name, ()))]
        padded.append(replace(family, requires=(*family.requires, *texts)) if texts else family)
    return padded


def with_seen_keys(families: list[Family], program: Program) -> list[Family]:
    """Families that shift what attention under a mask averages: a query that sees no key would not see the shift."""
    places: dict[str, set[str]] = {}
    for condition in (c for c in program.conditions if isinstance(c, SeenKeys)):
        for name in _shifted_through(program, condition.values):
            places.setdefault(name, set()).add(condition.place)
    if not places:
        return families
    masked = []
    for family in families:
        # A query that sees no key reads zeros, which factors leave as they are.
        concerned = () if family.quadratic and family.charges else family.parameters
        where = sorted(set().union(*(places.get(name, ()) for name in concerned)))
        texts = [f"every query of {place or 'the attention'} sees a key" for place in where]
        masked.append(replace(family, requires=(*family.requires, *texts)) if texts else family)
    return masked


def with_single_entries(families: list[Family], program: Program) -> list[Family]:
    """Families of parameters that nothing depends on because one entry alone was compared: that it is one is said."""
    single = [c for c in program.conditions if isinstance(c, SingleEntry)]
    if not single:
        return families
    said = []
    for family in families:
        places = {c.place for c in single if not c.parameters.isdisjoint(family.parameters)}
        texts = [f"{place or 'the softmax'} is over one entry, as in the batch given" for place in sorted(places)]
        said.append(replace(family, requires=(*family.requires, *texts)) if texts else family)
    return said


# Behind these no shift is left: it has been removed, or it is no symmetry.
_ENDING_SHIFTS = (p.Normalise, p.Softmax, p.Nonlinear, p.Homogeneous, p.Power, p.Exponential, p.Logarithm, p.Ended)


def _shifted_through(program: Program, value: int) -> set[str]:
    """The parameters of which a shift may reach a value."""
    makers, found, seen, left = program.makers(), set[str](), set[int](), [value]
    while left:
        index = left.pop()
        if index in seen or index not in makers:
            continue
        seen.add(index)
        primitive = makers[index].primitive
        if isinstance(primitive, p.Parameter):
            found.add(primitive.name)
        elif not isinstance(primitive, _ENDING_SHIFTS):
            left += [operand.index for operand in makers[index].operands]
    return found


def with_kept_zeros(families: list[Family], zeros: ZeroFactors, known: KnownFactors) -> list[Family]:
    """Families that owe something to zeros of a buffer: that the buffer keeps them is said."""
    masked = []
    for family in families:
        shifted = family.parameters if family.kind == "translation" else ()
        names = zeros.ending.union(known.buffers, *(zeros.buffers.get(parameter, set()) for parameter in shifted))
        texts = kept_zeros(names)
        masked.append(replace(family, requires=(*family.requires, *texts)) if texts else family)
    return masked


def with_rows_held(families: list[Family], rows: KnownRows) -> list[Family]:
    """Families that tell rows of a table apart, which a buffer names: that it keeps naming them is said."""
    if not rows.everywhere and not any(rows.buffers.values()):
        return families
    held = []
    for family in families:
        told = (rows.buffers.get(name, set()) for name in family.parameters if _tells_rows_apart(family, name))
        names = rows.everywhere.union(*told)
        texts = tuple(text for text in kept_values(names) if text not in family.requires)
        held.append(replace(family, requires=(*family.requires, *texts)) if texts else family)
    return held


def _tells_rows_apart(family: Family, table: str) -> bool:
    """Whether a family may move some rows of a table otherwise than the others."""
    terms = [term for term in getattr(family.action, "terms", ()) if getattr(term, "view", None) is not None]
    own = [term for term in terms if term.view.parameter == table]
    return not own or not all(isinstance(term, SliceTerm) and _alike(term) for term in own)


def _alike(term: SliceTerm) -> bool:
    """Whether the slices of every charge run over all rows, with one coefficient in all of them."""
    kept = term.view.kept
    if 0 not in kept or not len(term.slices):
        return True
    rows, *rest = np.unravel_index(term.slices, [term.view.shape[k] for k in kept])
    order = np.lexsort((rows, *rest, term.charges))
    count = term.view.shape[0]
    if len(order) % count:
        return False
    runs = [array[order].reshape(-1, count) for array in (*rest, term.charges, term.coefficients)]
    whole = bool((rows[order].reshape(-1, count) == np.arange(count)).all())
    return whole and all(bool((run == run[:, :1]).all()) for run in runs)


def kept_zeros(buffers: Collection[str]) -> list[str]:
    """What is required of buffers that zeros stand in."""
    return [f"{name} keeps its zeros" for name in sorted(buffers)]


def notes(captured: Captured) -> tuple[str, ...]:
    notes = [f"captured by {captured.route}: valid for {text}" for text in captured.requirements()]
    if captured.replayed:
        notes.append(f"not replayed beside the model: {captured.replayed}")
    if captured.tied:
        notes.append("tied: " + ", ".join(f"{alias} is {name}" for alias, name in captured.tied.items()))
    return tuple(notes)


def described(captured: Captured) -> dict[str, Any]:
    return {
        "route": captured.route,
        "training": captured.training,
        "tied": dict(captured.tied),
        "parameters": {name: list(shape) for name, shape in captured.shapes.items()},
    }


def kept_values(buffers: Collection[str]) -> list[str]:
    """What is required of buffers whose entries were compared."""
    return [f"{name} keeps the values that it had" for name in sorted(buffers)]
