"""``find_symmetries``: capture once, interpret for scales and for shifts, read the families off the null spaces."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.functional.function_module import as_module
from neuralmechanics.symmetry.algebra.linear_system import NullSpace
from neuralmechanics.symmetry.domains.mixing import Mixings
from neuralmechanics.symmetry.domains.scaling.domain import Scales
from neuralmechanics.symmetry.domains.shift.domain import Shifts
from neuralmechanics.symmetry.families.family import Family
from neuralmechanics.symmetry.families.symmetries import Symmetries, UnknownOperation
from neuralmechanics.symmetry.finding.affine_shifts import affine_families
from neuralmechanics.symmetry.finding.coverage import coverage_of
from neuralmechanics.symmetry.finding.gauges import gauge_families
from neuralmechanics.symmetry.finding.grouping import collapse, gather_families, read_off, unique_names
from neuralmechanics.symmetry.finding.linear_blocks import linear_families
from neuralmechanics.symmetry.lowering.capture.capture import capture
from neuralmechanics.symmetry.lowering.capture.captured import Captured, operation_name, place
from neuralmechanics.symmetry.lowering.rules.normalisations import mode_of_batch_norm
from neuralmechanics.symmetry.passes.parameter_uses import Roles, roles
from neuralmechanics.symmetry.passes.rotary import Rotary, rotary_operations
from neuralmechanics.symmetry.passes.walk import dependents, interpret, live
from neuralmechanics.symmetry.program.refusals import DomainError

__all__ = ["analyse", "find_forward_symmetries", "find_symmetries"]


def find_symmetries(
    model: nn.Module | Callable[[dict[str, Tensor], Any], Any],
    batch: Any,
    loss_fn: LossFunction | None = None,
    *,
    params: Mapping[str, Tensor] | None = None,
) -> Symmetries:
    """Every continuous symmetry of the parameters that the model's graph has for any data.

    ``loss_fn(model, batch)`` returns the scalar that must stay unchanged; without it, the model's whole output must.
    Only shapes of ``batch`` matter. Nothing is allocated for weights on the meta device. Cost: one export of the model,
    then linear in operations times channels. Source: Kunin et al. 2021, section 3; labels are log-factors.

    A plain function ``model(params, batch)`` comes with its named tensors as ``params``.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> find_symmetries(model, torch.zeros(5, 3)).count()
    {'translation': 0, 'scale': 0, 'rescale': 4, 'linear': 0}
    >>> weights = {"w1": torch.zeros(16, 3), "w2": torch.zeros(2, 16)}
    >>> network = lambda p, x: torch.relu(x @ p["w1"].T) @ p["w2"].T
    >>> find_symmetries(network, torch.zeros(5, 3), params=weights).count()["rescale"]
    16
    """
    with _collector_paused():
        return analyse(capture(as_module(model, params), batch, loss_fn))


def find_forward_symmetries(model: nn.Module, batch: Any, loss_fn: LossFunction | None = None) -> Symmetries:
    """Every continuous symmetry of what the forward pass computes, whatever its backward pass does."""
    with _collector_paused():
        return analyse(capture(model, batch, loss_fn, gradients=False))


@contextmanager
def _collector_paused() -> Iterator[None]:
    """No search for cyclic garbage meanwhile: it would walk a graph of many objects, all alive, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def analyse(captured: Captured) -> Symmetries:
    """The symmetries of a captured graph."""
    captured = live(captured)
    dependent = dependents(captured)
    read = roles(captured)
    requires = _requirements(captured)
    unknown: list[UnknownOperation] = []
    of_shifts: list[UnknownOperation] = []

    def walk(domain: Any, rotary: Rotary | None = None, kept: list[UnknownOperation] = unknown) -> None:
        """One walk, of which what was refused is kept."""
        refused = interpret(captured, domain, dependent, rotary).unknown
        kept.extend(u for u in refused if u not in kept)

    # The walk for shifts takes the most memory: nothing else is held meanwhile.
    translations = _shifted(captured, partial(walk, kept=of_shifts), read.single, requires)
    scales = Scales(captured.shapes, read.elementwise, read.groups, read.contracted, read.single)
    walk(scales)
    unknown.extend(u for u in of_shifts if u not in unknown)
    space = scales.system.solve()
    linear, mixed = _linear(captured, walk, read, scales, space, requires)
    plain = [f for f in translations if f.kind == "translation"]
    affine = [f for f in translations if f.kind == "affine"]
    turns, shears = gauge_families(captured, walk, read.single, linear, requires)
    families = plain + _scalings(scales, space, requires, mixed) + linear + turns + affine + shears
    named = tuple(_padded(unique_names(families), captured))
    coverage = coverage_of(captured, dependent, read, named, scales, space)
    return Symmetries(named, tuple(unknown), coverage, _notes(captured), _described(captured))


Walking = Callable[..., None]


def _linear(
    captured: Captured, walk: Walking, read: Roles, scales: Scales, space: NullSpace, requires: tuple[str, ...]
) -> tuple[list[Family], np.ndarray]:
    """Linear blocks, then rotary pairs; and the basis vectors of the scale null space that they account for."""
    mixings = Mixings(scales, space)
    walk(mixings)
    blocks = _same_numbers(mixings, scales).blocks(scales.parameters).mixing
    linear, mixed = linear_families(blocks, scales.parameters, space, requires)
    del mixings
    rotary = rotary_operations(captured.graph, dependents(captured))
    if not rotary.ends:
        return linear, mixed
    through = Scales(captured.shapes, read.elementwise, read.groups, read.contracted, read.single)
    walk(through, rotary)
    clear = through.system.solve()
    turning = Mixings(through, clear)
    walk(turning, rotary)
    pairs = list(_same_numbers(turning, through).blocks(through.parameters).rotating)
    turned, _ = linear_families(pairs, through.parameters, clear, requires, complex_pairs=True)
    return linear + turned, np.concatenate([mixed, *(_scaled_by(f, scales, space) for f in turned)])


def _same_numbers(mixings: Mixings, scales: Scales) -> Mixings:
    """The second walk, which reads the null space of the first by the numbers of its variables."""
    if mixings.system.size != scales.system.size:
        raise DomainError(
            f"the walk for linear blocks has {mixings.system.size} variables, that for scales {scales.system.size}: "
            "they read the graph differently; this is a fault of neuralmechanics: please report it with this line"
        )
    return mixings


def _shifted(captured: Captured, walk: Walking, single: frozenset[str], requires: tuple[str, ...]) -> list[Family]:
    """Translations; then affine families, by one more walk in which later biases may absorb a shift."""
    shifts = Shifts(captured.shapes, complex=captured.complex, single=single)
    walk(shifts)
    translations = _translations(shifts, shifts.system.solve(shifts.read()), requires)
    if not shifts.absorbed:
        return translations
    del shifts  # its variables take much memory, and so will those of the next walk
    absorbing = Shifts(captured.shapes, absorbing=True, complex=captured.complex, single=single)
    walk(absorbing)
    return translations + affine_families(absorbing, absorbing.system.solve(absorbing.read()), translations, requires)


def _scaled_by(family: Family, scales: Scales, space: NullSpace) -> np.ndarray:
    """The basis vectors of the scale null space that scale the channels of a family of complex pairs."""
    found = []
    for term in family.grams:
        labels = scales.parameters[term.view.parameter].terms
        arrays = [t.ids for t in labels if tuple(d for d, n in enumerate(t.ids.shape) if n > 1) == term.view.kept]
        found += [space.basis_of(ids.reshape(-1)[term.slices.reshape(-1)]) for ids in arrays]
    return np.unique(np.concatenate(found))


def _translations(shifts: Shifts, space: NullSpace, requires: tuple[str, ...]) -> list[Family]:
    entries = []
    for name, arrays in shifts.parameters.items():
        for ids in arrays:
            entry = read_off(name, shifts.shapes[name], collapse(ids, space), 1.0, space)
            entries += [entry] if entry is not None else []
    return gather_families(entries, space.count, "translation", [], requires)


def _scalings(scales: Scales, space: NullSpace, requires: tuple[str, ...], mixed: np.ndarray) -> list[Family]:
    """Scales and rescales, without those that are the diagonal of a linear block."""
    entries = []
    for name, label in scales.parameters.items():
        for term in label.terms:
            ids = collapse(term.ids, space)
            entry = read_off(name, label.shape, ids, float(term.coefficient), space)
            entries += [entry] if entry is not None else []
    breakings = [(space.basis_of(ids), broken_by) for ids, broken_by in scales.breakings]
    breakings = [(basis, broken_by) for basis, broken_by in breakings if len(basis)]
    return gather_families([e.without(mixed) for e in entries], space.count, None, breakings, requires)


def _requirements(captured: Captured) -> tuple[str, ...]:
    modes = {place(n): mode for n in captured.graph.nodes if (mode := mode_of_batch_norm(n)) is not None}
    if not any(modes.values()):
        return captured.requirements()
    training = [where for where, mode in modes.items() if mode]
    shown = ", ".join(training[:3]) + (f" and {len(training) - 3} more" if len(training) > 3 else "")
    mixed = "" if all(modes.values()) else f" of {shown}"
    return (f"training mode (batch statistics){mixed}", *captured.requirements())


def _padded(families: list[Family], captured: Captured) -> list[Family]:
    """Families that move an embedding's padding row, which gets no gradient: what makes up for it is said."""
    rows: dict[str, set[int]] = {}
    for node in captured.graph.nodes:
        if operation_name(node) == "aten.embedding" and len(node.args) > 2 and node.args[2] >= 0:
            rows.setdefault(captured.parameters.get(node.args[0].name, ""), set()).add(node.args[2])
    if not rows:
        return families
    padded = []
    for family in families:
        shifts = family.kind in ("translation", "affine")
        needed = "the batch takes no row {} of {} (padding)" if shifts else "row {} of {} (padding) is zero"
        texts = [needed.format(k, name) for name in family.parameters for k in sorted(rows.get(name, ()))]
        padded.append(replace(family, requires=(*family.requires, *texts)) if texts else family)
    return padded


def _notes(captured: Captured) -> tuple[str, ...]:
    notes = [f"captured by {captured.route}: valid for {text}" for text in captured.requirements()]
    if captured.replayed:
        notes.append(f"not replayed beside the model: {captured.replayed}")
    if captured.tied:
        notes.append("tied: " + ", ".join(f"{alias} is {name}" for alias, name in captured.tied.items()))
    return tuple(notes)


def _described(captured: Captured) -> dict[str, Any]:
    return {
        "route": captured.route,
        "training": captured.training,
        "tied": dict(captured.tied),
        "parameters": {name: list(shape) for name, shape in captured.shapes.items()},
    }
