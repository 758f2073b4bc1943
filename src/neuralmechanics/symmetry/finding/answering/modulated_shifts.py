"""Shifts of what modulations multiply: y = g(c)·(h + t) + b(c) is answered by the weights of b, which take on t⊙g."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from scipy import sparse

from neuralmechanics.slices import SliceTerm
from neuralmechanics.symmetry.algebra.independence import independent_columns
from neuralmechanics.symmetry.algebra.sets import without
from neuralmechanics.symmetry.domains.shift.domain import Shifts
from neuralmechanics.symmetry.families.actions import AffineShift
from neuralmechanics.symmetry.families.actions.terms.product_terms import ProductTerm
from neuralmechanics.symmetry.families.family import Family
from neuralmechanics.symmetry.finding.reading.absorbing import absorbed_shifts
from neuralmechanics.symmetry.finding.reading.affine_shifts import ShiftReading
from neuralmechanics.symmetry.finding.reading.naming import SliceLabels, named_family
from neuralmechanics.symmetry.finding.redundancy import distinct_shifts
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.passes.modulating.matching import Product
from neuralmechanics.symmetry.passes.modulating.modulations import Modulation, modulations, with_shifts
from neuralmechanics.symmetry.program.interpret import interpret
from neuralmechanics.symmetry.program.program import Program

__all__ = ["modulated_shifts"]


def modulated_shifts(
    captured: Captured, program: Program, single: frozenset[str], requires: tuple[str, ...]
) -> list[Family]:
    """Shifts of the program in which constants δ are added to what is modulated, the maps beside taking these on.

    A shift that moves δ by v is one of the program as it is, in which B moves by v⊙G instead.
    """
    found = {m.name: m for m in modulations(program)}
    if not found:
        return []
    shapes = {name: m.shape for name, m in found.items()}
    shifts = absorbed_shifts(
        lambda answers: Shifts(
            {**captured.shapes, **shapes}, absorbing=True, complex=captured.complex, single=single, answers=answers
        ),
        partial(interpret, with_shifts(program, [*found.values()])),
        never=shapes,
    )
    reading = ShiftReading.of(shifts, distinct_shifts(shifts, shifts.system.solve(shifts.read())))
    families = []
    for action, count in reading.actions(_chosen(reading, found)):
        own = tuple(t for t in action.terms if t.view.parameter not in found)
        products = [_product(t, one) for t in action.terms if (m := found.get(t.view.parameter)) for one in m.products]
        if own:
            moved = AffineShift(own, action.answers, tuple(p for p in products if len(p.slices)))
            families.append(named_family("affine", moved, SliceLabels(own, count), requires))
    return families


def _chosen(reading: ShiftReading, found: Mapping[str, Modulation]) -> np.ndarray:
    """Independent basis vectors that move some δ, and nothing that a product or an answer is made of."""
    entries = [e for e in reading.entries if e.view.parameter in found]
    touching = [*(e.basis for e in entries), np.zeros(0, np.int64)]
    refused = np.concatenate([reading.refused, *_quadratic(reading, found)])
    allowed = without(np.concatenate(touching), refused)
    if not len(allowed):
        return allowed
    blocks = [
        sparse.csr_matrix((e.coefficients, (e.slices, e.basis)), shape=(e.view.size, reading.space.count))[:, allowed]
        for e in entries
    ]
    return np.asarray(allowed[independent_columns(sparse.csr_matrix(sparse.vstack(blocks)))])


def _quadratic(reading: ShiftReading, found: Mapping[str, Modulation]) -> list[np.ndarray]:
    """Basis vectors that move a weight by which others of their own steps are multiplied."""
    owns = {name: [e.basis for e in reading.entries if e.view.parameter == name] for name in found}
    never: list[np.ndarray] = []
    for name, m in found.items():
        basis = np.concatenate([*owns[name], np.zeros(0, np.int64)])
        moved = [part for product in m.products for part in _moving(reading, product)]
        for other in found.values():
            moved += owns[other.name] if _meet(m.products, other.products) else []
        absorbers = {product.absorber.parameter for product in m.products}
        for absorbed, maps in reading.maps:
            if absorbers & {factor.view.parameter for factor in maps.factors}:
                moved.append(reading.space.basis_of(absorbed.ids))
        never += [basis[np.isin(basis, part)] for part in moved]
    return never


def _moving(reading: ShiftReading, product: Product) -> Iterator[np.ndarray]:
    """The basis vectors that shift what a product is made of, or make it absorb something."""
    for e in reading.entries:
        if e.view.parameter == product.source.parameter:
            same = e.view == product.source
            yield e.basis[np.isin(e.slices, product.sources)] if same else e.basis
    for absorbed, _ in reading.maps:
        if absorbed.absorber == product.source.parameter:
            yield reading.space.basis_of(absorbed.ids)


def _meet(products: Sequence[Product], others: Sequence[Product]) -> bool:
    """Whether slices that absorb are among those that others are multiplied by."""
    for one in products:
        for other in others:
            if one.absorber.parameter != other.source.parameter:
                continue
            if one.absorber != other.source or np.isin(one.slices, other.sources).any():
                return True
    return False


def _product(term: SliceTerm, product: Product) -> ProductTerm:
    """What the absorber takes on of shifts of δ."""
    view = term.view
    numbers = np.arange(view.size).reshape([n if d in view.kept else 1 for d, n in enumerate(view.shape)])
    slices = np.broadcast_to(numbers, view.shape).reshape(-1)[product.entries]
    sizes = view.size, int(term.charges.max()) + 1
    steps = sparse.csr_matrix((term.coefficients, (term.slices, term.charges)), shape=sizes)
    met = sparse.coo_matrix(steps[slices])
    coefficients = -product.factor * met.data
    return ProductTerm(
        product.absorber,
        product.source,
        product.slices[met.row],
        product.sources[met.row],
        met.col.astype(np.int64),
        coefficients,
    )
