"""Families without a charge: rotations of whole spaces of channels, mixings through gains, and what norms swallow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from neuralmechanics.symmetry.domains.representation.domain import Transport
from neuralmechanics.symmetry.families.actions.rotation import Gauge, Shear, ShearTerm, Turn, TurnTerm
from neuralmechanics.symmetry.families.family import Family
from neuralmechanics.symmetry.finding.grouping import title
from neuralmechanics.symmetry.lowering.capture.captured import Captured

__all__ = ["gauge_families"]


def gauge_families(
    captured: Captured,
    walk: Callable[[Transport], None],
    single: frozenset[str],
    linear: Sequence[Family],
    requires: tuple[str, ...],
) -> tuple[list[Family], list[Family]]:
    """Turns, of kind linear, and shears, of kind affine; ``linear`` are the blocks that are known already.

    ``walk`` runs the graph through an interpreter of the primitives.

    Rotations: spaces that norms (or a tensor that both writes and reads a space) see by length only. General mixings:
    spaces with gains between writers and readers, whose matrices do not commute with them. Blind ones: what is added
    along the all-ones vector of a space that is read by centring norms, where others read the space too.
    """
    turned, blind = (
        Transport(captured.shapes, complex=captured.complex, single=single, blind=swallows)
        for swallows in (False, True)
    )
    for transport in (turned, blind):
        walk(transport)
    found: list[Gauge] = []
    for root, terms in _spaces(turned).items():
        width, orthogonal = turned.spaces.widths[root], root in turned.spaces.orthogonal
        centred = root in turned.spaces.ones
        if orthogonal and width > (2 if centred else 1):
            found.append(Turn(terms, width, "centred" if centred else "orthogonal"))
        elif not orthogonal and not centred and width > 1 and len({t.dressing for t in terms}) > 1:
            found += [] if _known(terms, linear) else [Turn(terms, width, "general")]
    for root, terms in _spaces(blind).items():
        marked = root in blind.spaces.blind and root not in blind.spaces.orthogonal | blind.spaces.ones
        if marked and any(t.dual for t in terms):
            found.append(Turn(terms, blind.spaces.widths[root], "blind"))
    shears = [Shear(term, turned.shapes[term.weight][term.outputs]) for term in _answered(turned.shears)]
    return [_family("linear", turn, requires) for turn in found], [_family("affine", s, requires) for s in shears]


def _spaces(transport: Transport) -> dict[int, tuple[TurnTerm, ...]]:
    """The dimensions of parameters that each space moves; spaces that only the identity acts on are left out."""
    members: dict[int, list[TurnTerm]] = {}
    for name, value in transport.parameters.items():
        for d, leg in enumerate(value.legs):
            if leg is not None and transport.spaces.moves(leg):
                root = transport.spaces.find(leg)
                members.setdefault(root.node, []).append(TurnTerm(name, d, root.dual, root.dressing))
    return {root: tuple(terms) for root, terms in members.items()}


def _known(terms: Collection[TurnTerm], linear: Sequence[Family]) -> bool:
    """Whether a linear block mixes these channels already."""
    known = {(t.view.parameter, t.view.kept) for family in linear for t in family.grams}
    return any((t.parameter, (t.dim,)) in known for t in terms)


def _answered(shears: Mapping[str, ShearTerm]) -> list[ShearTerm]:
    return [term for term in shears.values() if not term.shifts or term.absorber is not None]


def _family(kind: str, gauge: Gauge, requires: tuple[str, ...]) -> Family:
    names = gauge.parameters
    return Family(
        kind=kind,  # type: ignore[arg-type]
        name=title(kind, names),
        labels=(),
        gauge=gauge,
        requires=requires,
        layer=names[0].rpartition(".")[0],
    )
