"""Families without a charge: rotations of whole spaces of channels, mixings through gains, and what norms swallow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from neuralmechanics.slices.views import SliceView
from neuralmechanics.symmetry.algebra.sets import distinct
from neuralmechanics.symmetry.domains.representation.domain import Transport
from neuralmechanics.symmetry.domains.representation.shears import Sheared
from neuralmechanics.symmetry.families.actions import ComplexPairs, LinearBlocks, Rotation, RotationTerm, Shear
from neuralmechanics.symmetry.families.family import Family
from neuralmechanics.symmetry.families.spaces import Entry, Space
from neuralmechanics.symmetry.finding.reading.naming import named_family
from neuralmechanics.symmetry.finding.reading.shears import (
    Answering,
    Freeing,
    shared_shears,
    shears_of,
    whole_shears,
)
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.passes.facts.parameter_uses import ParameterUses

__all__ = ["gauge_families", "turned_pairs"]

Mixing = LinearBlocks | ComplexPairs
Slices = tuple[str, tuple[int, ...], tuple[int, ...]]
"""A parameter, the dimensions along which it is cut into slices, and numbers of some of them, in order."""


def gauge_families(
    captured: Captured,
    walk: Callable[[Transport], None],
    read: ParameterUses,
    linear: Sequence[Family],
    spaces: Sequence[Space],
    shifted: Sequence[Family],
    requires: tuple[str, ...],
    answered: Answering,
    freed: Freeing,
    solved: Callable[[Sequence[Sheared]], Sequence[Shear]],
) -> tuple[list[Family], list[Family]]:
    """Turns, of kind linear, and shears, of kind affine; ``linear`` are known linear blocks.

    ``walk`` runs the graph through an interpreter of the primitives; ``answered`` tells which constant vectors weights
    may add to what they make, and which biases take them back, ``freed`` what takes back shifts of their columns,
    ``solved`` which shears and shifts of biases there are besides, for which a map is inverted.

    Rotations: ``spaces`` that norms (or a tensor that both writes and reads a space) see by length only. General
    mixings: spaces with gains between writers and readers, whose matrices do not commute with them. Blind ones: what is
    added along the all-ones vector of a space that is read by centring norms, where others read the space too; and
    1 + v·1ᵀ, which leave what a centring norm makes, so that its bias moves and readers without a bias move against it.
    ``shifted`` are translations and affine families: shifts of the bias that they know need no such matrix.
    """
    turned, blind = (
        Transport(
            captured.shapes,
            complex=captured.complex,
            single=read.single,
            answering=read.answering,
            blind=swallows,
            taking=read.taking,
        )
        for swallows in (False, True)
    )
    for transport in (turned, blind):
        walk(transport)
    settled = turned.shears.settled(read.reads)
    shears = shears_of(settled, captured.shapes, answered)
    shared = turned.shears.shared(read.reads)
    shared = {name: w for name, w in shared.items() if not _shifted_by_columns(name, w.inputs, shifted)}
    shears += shared_shears(shared, captured.shapes, answered, freed)
    whole = whole_shears(shears)  # of these, nothing is left that an equation would give
    left = [*shears, *solved([w for w in settled.values() if (w.weight, w.inputs) not in whole])]
    blocks = [family.action for family in linear if isinstance(family.action, (LinearBlocks, ComplexPairs))]
    found = [turn for space in spaces if (turn := _rotation(space, blocks)) is not None]
    for root, terms in _spaces(blind).items():
        marked = root in blind.spaces.blind and root not in blind.spaces.orthogonal | blind.spaces.ones
        if marked and any(t.dual for t in terms) and not _answered_by_shears(terms, shears, shifted):
            taken = tuple((name, bias) for leg, name, bias in blind.taken if blind.spaces.find(leg).node == root)
            found.append(Rotation(terms, blind.spaces.widths[root], "blind", taken=taken))
    return (
        [named_family("linear", turn, (), requires) for turn in found],
        [named_family("affine", shear, (), requires) for shear in left],
    )


def turned_pairs(
    turned: Sequence[tuple[Space, tuple[tuple[int, int], ...]]], requires: tuple[str, ...]
) -> list[Family]:
    """Rotations of the pairs that a rotary embedding turns, where norms see them by length only.

    ``turned``: spaces of the program that looks through the embedding, with their pairs. Without a norm the pairs scale
    as well: they are linear.
    """
    found = []
    for space, pairs in turned:
        terms = tuple(_term(entry, space) for entry in space.entries if entry.mixes)
        found.append(Rotation(terms, space.width, "paired", pairs, space.copies_shape))
    return [named_family("linear", turn, (), requires) for turn in found]


def _spaces(transport: Transport) -> dict[int, tuple[RotationTerm, ...]]:
    """The dimensions of parameters that each space moves; spaces that only the identity acts on are left out."""
    members: dict[int, list[RotationTerm]] = {}
    for name, value in transport.parameters.items():
        for d, leg in enumerate(value.legs):
            if leg is not None and transport.spaces.moves(leg):
                root = transport.spaces.find(leg)
                members.setdefault(root.node, []).append(RotationTerm(name, d, root.dual, root.dressing))
    return {root: tuple(terms) for root, terms in members.items()}


def _rotation(space: Space, blocks: Sequence[Mixing]) -> Rotation | None:
    """The connected group of a space's matrices, but for scalings; None where it is no more than the identity."""
    terms = tuple(_term(entry, space) for entry in space.entries if entry.mixes)
    copies = space.copies_shape
    if space.group == "orthogonal" and space.width > 1:
        turn = Rotation(terms, space.width, "orthogonal", copies=copies)
        return None if _of_blocks(turn, blocks) else turn
    if space.group == "ones-preserving orthogonal" and space.width > 2:
        return Rotation(terms, space.width, "centred", copies=copies)
    dressed = space.group == "general linear" and space.width > 1 and len({term.dressing for term in terms}) > 1
    return Rotation(terms, space.width, "general", copies=copies) if dressed and not _known(terms, blocks) else None


def _term(entry: Entry, space: Space) -> RotationTerm:
    whole = entry.whole and not space.copies
    return RotationTerm(
        entry.parameter,
        entry.axis,
        entry.inverse_transposed,
        entry.dressing,
        None if whole else entry.place,
        entry.beside,
    )


def _known(terms: Collection[RotationTerm], blocks: Sequence[Mixing]) -> bool:
    """Whether a linear block mixes these channels already."""
    known = {(t.view.parameter, t.view.kept) for block in blocks for t in block.terms}
    return any((t.parameter, (t.dim,)) in known for t in terms)


def _of_blocks(turn: Rotation, blocks: Sequence[Mixing]) -> bool:
    """Whether a rotation is one of linear blocks, turned together: of queries with keys, and of values apart."""
    actions = [block for block in blocks if isinstance(block, LinearBlocks)]
    views = {t.view.parameter: t.view for action in actions for t in action.terms}
    if any(t.parameter not in views or t.dressing for t in turn.terms):
        return False
    matrices = [m for action in actions for m in _mixed_by(action)]
    for copy in np.ndindex(*turn.copies):
        turned = {
            (t.parameter, view.kept, tuple(rows))
            for t in turn.terms
            for view in [views[t.parameter]]
            for rows in _turned(t, view, turn.width, copy)
        }
        together = [m for m in matrices if m & turned]
        if not turned or set().union(*together) != turned or sum(map(len, together)) != len(turned):
            return False
    return True


def _mixed_by(action: LinearBlocks) -> list[set[Slices]]:
    """The slices that each matrix mixes, in their order."""
    found: list[set[Slices]] = [set() for _ in range(action.blocks)]
    for term in action.terms:
        for block, slices in zip(term.blocks.tolist(), term.slices.tolist(), strict=True):
            found[block].add((term.view.parameter, term.view.kept, tuple(slices)))
    return found


def _turned(term: RotationTerm, view: SliceView, width: int, copy: tuple[int, ...]) -> list[list[int]]:
    """Slices of the view that a rotation mixes, in their order; none where it does not take them as they are."""
    places = {place.axis: place for place in (*([term.place] if term.place else []), *term.beside)}
    if not {term.dim, *places} <= {*view.kept}:
        return []
    numbers = np.zeros((width, 1), np.int64)
    for axis in view.kept:
        place, size = places.get(axis), view.shape[axis]
        along = np.arange(size)[None] if place is None else place.positions(copy)
        along = along.reshape(width, -1) if axis == term.dim else along.reshape(1, -1)
        numbers = (numbers[..., None] * size + along[:, None]).reshape(width, -1)
    rows: list[list[int]] = numbers.T.tolist()
    return rows


def _shifted_by_columns(name: str, inputs: int, shifted: Sequence[Family]) -> bool:
    """Whether each column of a weight may be shifted as it is: then no norm is needed for it."""
    terms = [t for f in shifted for t in f.action.shift_terms if t.view.parameter == name and t.view.kept == (inputs,)]
    return bool(terms) and len(distinct(np.concatenate([t.slices for t in terms]))) == terms[0].view.size


def _answered_by_shears(terms: Collection[RotationTerm], shears: Sequence[Shear], shifted: Sequence[Family]) -> bool:
    """Whether 1 + v·1ᵀ is a shift of a norm's bias that is known, and shears of all that reads the norm."""
    biases = [t.parameter for t in terms if t.dual]
    sheared = whole_shears(shears)
    if len(biases) != 1 or not all((t.parameter, t.dim) in sheared for t in terms if not t.dual):
        return False
    known = [t for f in shifted for t in f.action.shift_terms if t.view.parameter == biases[0]]
    slices = {number for t in known for number in t.slices.tolist()}
    return bool(known) and all(t.view.kept for t in known) and len(slices) == known[0].view.size
