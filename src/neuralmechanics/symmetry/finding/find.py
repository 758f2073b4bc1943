"""``find_symmetries``: capture once, interpret for scales and for shifts, read the families off the null spaces."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.functional.function_module import as_module
from neuralmechanics.symmetry.algebra.linear_system import NullSpace
from neuralmechanics.symmetry.algebra.sets import distinct
from neuralmechanics.symmetry.domains.mixing import Mixings
from neuralmechanics.symmetry.domains.scaling.domain import Scales
from neuralmechanics.symmetry.domains.shift.domain import Shifts
from neuralmechanics.symmetry.families.actions import GramTerm, Shift
from neuralmechanics.symmetry.families.family import Family, Kind
from neuralmechanics.symmetry.families.symmetries import Symmetries
from neuralmechanics.symmetry.finding.answering.answered_constants import answered_constants
from neuralmechanics.symmetry.finding.answering.freed_columns import freed_columns
from neuralmechanics.symmetry.finding.answering.gained_shifts import gained_shifts
from neuralmechanics.symmetry.finding.answering.modulated_shifts import modulated_shifts
from neuralmechanics.symmetry.finding.answering.solved_constants import solved_constants
from neuralmechanics.symmetry.finding.blocks.experts import expert_spaces
from neuralmechanics.symmetry.finding.coverage import coverage_of
from neuralmechanics.symmetry.finding.model_entries import ModelEntries, model_entries
from neuralmechanics.symmetry.finding.negative_factors import with_negative_factors
from neuralmechanics.symmetry.finding.reading.absorbing import absorbed_shifts
from neuralmechanics.symmetry.finding.reading.affine_shifts import affine_families
from neuralmechanics.symmetry.finding.reading.displaced import Displaced, displaced
from neuralmechanics.symmetry.finding.reading.gauges import gauge_families, turned_pairs
from neuralmechanics.symmetry.finding.reading.grouping import Group, collapse, gather, read_off, shifted_entries
from neuralmechanics.symmetry.finding.reading.linear_blocks import block_family, gather_blocks, pair_family
from neuralmechanics.symmetry.finding.reading.naming import named_family, unique_names
from neuralmechanics.symmetry.finding.redundancy import distinct_scalings, distinct_shifts
from neuralmechanics.symmetry.finding.remarks import (
    described,
    kept_values,
    kept_zeros,
    notes,
    requirements,
    with_kept_zeros,
    with_padding_rows,
    with_rows_held,
    with_seen_keys,
    with_single_entries,
)
from neuralmechanics.symmetry.finding.spaces import spaces_of, turned_spaces
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.lowering.capturing import capture
from neuralmechanics.symmetry.lowering.graph.liveness import live
from neuralmechanics.symmetry.lowering.lower import lower
from neuralmechanics.symmetry.passes.facts.parameter_uses import ParameterUses, parameter_uses
from neuralmechanics.symmetry.passes.facts.rotations.lengths import sees_turned_lengths
from neuralmechanics.symmetry.passes.facts.rotations.rotary import through_rotations
from neuralmechanics.symmetry.passes.facts.shares import shares
from neuralmechanics.symmetry.passes.model_entries.hidden_masks import without_hidden_masks
from neuralmechanics.symmetry.passes.model_entries.known_masks import with_known_masks
from neuralmechanics.symmetry.passes.model_entries.known_rows import with_known_rows
from neuralmechanics.symmetry.passes.model_entries.still_channels import with_still_channels
from neuralmechanics.symmetry.passes.normal_forms.known_factors import with_known_factors
from neuralmechanics.symmetry.passes.normal_forms.late_biases import with_late_biases
from neuralmechanics.symmetry.passes.rewriting.rewritten import rewritten
from neuralmechanics.symmetry.passes.zeros.zero_channels import with_zero_channels
from neuralmechanics.symmetry.passes.zeros.zero_factors import with_zero_factors
from neuralmechanics.symmetry.passes.zeros.zero_parts import with_zero_parts
from neuralmechanics.symmetry.program.interpret import interpret
from neuralmechanics.symmetry.program.program import Program
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
    with collector_paused():
        return analyse(capture(as_module(model, params), batch, loss_fn))


def find_forward_symmetries(model: nn.Module, batch: Any, loss_fn: LossFunction | None = None) -> Symmetries:
    """Every continuous symmetry of what the forward pass computes, whatever its backward pass does."""
    with collector_paused():
        return analyse(capture(model, batch, loss_fn, gradients=False))


@contextmanager
def collector_paused() -> Iterator[None]:
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
    lowered = lower(captured)
    own = model_entries(captured, lowered)
    rows = with_known_rows(lowered.program, own)
    masks = with_known_masks(rows.program, own)
    still = with_still_channels(masks.program, own)
    parts = with_zero_parts(without_hidden_masks(still.program, own), own)
    known = with_known_factors(parts.program, own)
    channels = with_zero_channels(known.program, own)
    zeros = with_zero_factors(channels.program, own)
    program = rewritten(zeros.program)
    walk = partial(interpret, program)
    read = parameter_uses(program)
    values = kept_values(still.buffers | masks.buffers)
    requires = (*requirements(captured, program), *kept_zeros(parts.buffers | channels.buffers), *values)
    # The walk for shifts takes the most memory: nothing else is held meanwhile.
    translations, affine = _shifted(captured, program, read.single, requires)
    about = displaced(captured, lowered, program)
    walk_about = partial(interpret, about.program)
    read_about = read if about.program is program else parameter_uses(about.program)
    scales = Scales(
        captured.shapes,
        read_about.elementwise,
        read_about.groups,
        read_about.contracted,
        read_about.single,
        read_about.pieces,
    )
    walk_about(scales)
    scales.leave_unread()
    space = distinct_scalings(scales)
    linear, mixed = _linear(captured, parts.program, walk_about, read_about, scales, space, requires, about, own)
    answered = partial(answered_constants, captured, program, single=read.single)
    spaces = spaces_of(captured, program, requires)
    experts = expert_spaces(captured, lowered, spaces, requires)
    freed = partial(freed_columns, captured, program, single=read.single)
    solved = partial(solved_constants, captured, program, single=read.single)
    turns, shears = gauge_families(
        captured, walk, read, linear, spaces, translations + affine, requires, answered, freed, solved
    )
    gained = [named_family("affine", shear, (), requires) for shear in gained_shifts(captured, program, read.single)]
    gained += modulated_shifts(captured, program, read.single, requires)
    scalings = _scalings(scales, space, requires, mixed, about)
    families = translations + scalings + linear + turns + affine + shears + gained
    said = with_seen_keys(with_padding_rows(unique_names(families), program), lowered.program)
    said = with_rows_held(with_single_entries(said, program), rows)
    named = tuple(with_kept_zeros(with_negative_factors(said, spaces), zeros, known))
    coverage = coverage_of(captured, about.program, read_about, named, scales, space)
    return Symmetries(named, lowered.unknown, coverage, notes(captured), described(captured), spaces + experts)


Walking = Callable[..., None]


def _linear(
    captured: Captured,
    program: Program,
    walk: Walking,
    read: ParameterUses,
    scales: Scales,
    space: NullSpace,
    requires: tuple[str, ...],
    about: Displaced,
    own: ModelEntries,
) -> tuple[list[Family], np.ndarray]:
    """Linear blocks, then rotary pairs; and the basis vectors of the scale null space in them."""
    mixings = Mixings(scales, space)
    walk(mixings)
    blocks = _same_numbers(mixings, scales).blocks(scales.parameters).mixing
    groups, mixed = gather_blocks(blocks, scales.parameters, space, about.holds)
    linear = [block_family(group, requires) for group in groups]
    del mixings
    turned_over = through_rotations(program, own.entries)
    if turned_over is None:
        return linear, mixed
    through = Scales(captured.shapes, read.elementwise, read.groups, read.contracted, read.single, read.pieces)
    looked_through = rewritten(turned_over.program)
    tables = own.names(turned_over.looked_at)
    requires = (*requires, *(text for text in kept_values(tables) if text not in requires))
    interpret(looked_through, through)
    through.leave_unread()
    clear = distinct_scalings(through)
    turning = Mixings(through, clear)
    interpret(looked_through, turning)
    pairs = list(_same_numbers(turning, through).blocks(through.parameters).rotating)
    turned, _ = gather_blocks(pairs, through.parameters, clear, about.holds)
    linear += [pair_family(group, requires) for group in turned]
    if sees_turned_lengths(looked_through):
        linear += turned_pairs(turned_spaces(captured, looked_through), requires)
    return linear, np.concatenate([mixed, *(_scaled_by(group.terms, scales, space) for group in turned)])


def _same_numbers(mixings: Mixings, scales: Scales) -> Mixings:
    """The second walk, which reads the null space of the first by the numbers of its variables."""
    if mixings.system.size != scales.system.size:
        raise DomainError(
            f"the walk for linear blocks has {mixings.system.size} variables, that for scales {scales.system.size}: "
            "they read the graph differently; this is a fault of neuralmechanics: please report it with this line"
        )
    return mixings


def _shifted(
    captured: Captured, program: Program, single: frozenset[str], requires: tuple[str, ...]
) -> tuple[list[Family], list[Family]]:
    """Translations; and affine families, by one more walk in which later biases may absorb a shift."""
    program = with_late_biases(program, single)  # a bias within a sum takes back what comes to the sum behind it
    whole = shares(program)
    shifts = Shifts(captured.shapes, complex=captured.complex, single=single, shares=whole)
    interpret(program, shifts)
    groups = _translations(shifts, distinct_shifts(shifts, shifts.system.solve(shifts.read())))
    actions = [Shift(group.terms) for group in groups]
    translations = [
        named_family("translation", action, group.labels, requires)
        for action, group in zip(actions, groups, strict=True)
    ]
    if not shifts.absorbed and not shifts.answerable:
        return translations, []
    answers = [*shifts.answerable]
    del shifts  # its variables take much memory, and so will those of the next walk
    absorbing = absorbed_shifts(
        lambda known: Shifts(
            captured.shapes, absorbing=True, complex=captured.complex, single=single, answers=known, shares=whole
        ),
        partial(interpret, program),
        answers,
    )
    space = distinct_shifts(absorbing, absorbing.system.solve(absorbing.read()))
    return translations, affine_families(absorbing, space, actions, requires)


def _scaled_by(terms: Sequence[GramTerm], scales: Scales, space: NullSpace) -> np.ndarray:
    """The basis vectors of the scale null space that scale the channels of complex pairs."""
    found = []
    for term in terms:
        labels = scales.parameters[term.view.parameter].terms
        arrays = [t.ids for t in labels if tuple(d for d, n in enumerate(t.ids.shape) if n > 1) == term.view.kept]
        found += [space.basis_of(ids.reshape(-1)[term.slices.reshape(-1)]) for ids in arrays]
    return distinct(np.concatenate(found))


def _translations(shifts: Shifts, space: NullSpace) -> list[Group]:
    return gather(shifted_entries(shifts, space), space.count)


def _scalings(
    scales: Scales, space: NullSpace, requires: tuple[str, ...], mixed: np.ndarray, about: Displaced
) -> list[Family]:
    """Scales and rescales, without those that are the diagonal of a linear block."""
    entries = []
    for name, label in scales.parameters.items():
        for term in label.terms:
            ids = collapse(term.ids, space)
            entry = read_off(name, label.shape, ids, float(term.coefficient), space)
            entries += [entry] if entry is not None else []
    breakings = [(space.basis_of(ids), broken_by) for ids, broken_by in scales.breakings]
    breakings = [(basis, broken_by) for basis, broken_by in breakings if len(basis)]
    entries = [e.without(mixed) for e in entries]
    groups = gather(entries, space.count, breakings, signed=True, marked=about.basis(entries))
    found = []
    for group in groups:
        kind: Kind = "scale" if group.one_sign else "rescale"
        needed = (*requires, *about.requires(group.terms))
        action = about.diagonal(group.terms)
        found.append(named_family(kind, action, about.labels(group), needed, group.broken_by))
    return found
