"""The charges as one process sees them: its pair(a, b) is a share of the whole's, and the shares add up.

Charges are bilinear sums over slices, so a process that holds a part of each tensor computes its part of every sum
from what it holds, and what several hold alike counts for each in proportion. One kind of charge is no such sum: an
entry (i, j) of a linear block whose channels i and j lie in different processes. Those are `cut`: nan here, and put
together from whole tensors where a record is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.monitor.processes.holding import Holding, Indices, everybodys
from neuralmechanics.monitor.processes.local_views import local_view
from neuralmechanics.slices import GramBlocks, ProductPlan, SliceMix, SliceTerm, SliceView
from neuralmechanics.symmetry import Family, Symmetries
from neuralmechanics.symmetry.families.actions import ChargeTerms
from neuralmechanics.symmetry.families.displacement import Displacement

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class LocalCharges:
    """Mixes of slice sums and of slice energies, and parts of Gram matrices, over what this process holds.

    `cut` marks the charges that no process knows alone, for which `pair` is nan.
    """

    labels: Sequence[str]
    sums: tuple[SliceTerm, ...]
    products: tuple[SliceTerm, ...]
    gram_blocks: tuple[GramBlocks, ...]
    unknown: tuple[SliceTerm, ...]
    cut: Mask
    displaced: ChargeTerms = field(default_factory=ChargeTerms)

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that something is held of."""
        linear, quadratic, by_name = self._parts
        return tuple(dict.fromkeys((*linear.parameters, *quadratic.parameters, *by_name)))

    apart = frozenset[str]()

    def accumulate_apart_(self, out: Float64[Tensor, " charges"], name: str, a: Tensor, b: Tensor) -> None:
        """Nothing: charges that are no sums over slices are not followed in shards."""

    def product_plan(self, params: Mapping[str, Tensor], device: torch.device) -> ProductPlan:
        """What measures the charges in one read of what is held here, on one device."""
        _, quadratic, _ = self._parts
        linear = SliceMix(len(self.labels), (*self.sums, *self.displaced.offsets))
        return ProductPlan(len(self.labels), quadratic, linear, params, device, self.gram_blocks)

    @cached_property
    def displacement(self) -> Displacement:
        """What charges of θ + c are beside ⟨θ, Mθ⟩, of what is held here."""
        return Displacement.of([self.displaced], len(self.labels))

    def accumulate_pair_(self, out: Float64[Tensor, " charges"], name: str, a: Tensor, b: Tensor) -> None:
        """Adds parameter ``name``'s share of ``pair(a, b)`` to ``out`` on its device, without host synchronisation."""
        linear, quadratic, grams = self._parts
        linear.add_sums_(out, name, a)
        quadratic.add_products_(out, name, a, b)
        for blocks in grams.get(name, ()):
            blocks.add_(out, a, b)

    def size_sums(self, values: Mapping[str, Tensor], *, of_tangents: bool = False) -> Float64[Tensor, " charges"]:
        """Σ |c_i| θ_i² of every charge, for blocks the Gram matrices of both sides together.

        `Symmetries.charge_scale` is a function of these sums over the whole tensors, see `size_of_sums`; of gradients
        and steps (`of_tangents`) `Symmetries.tangent_scale`.
        """
        mix, grams = self._positive
        device = next(iter(values.values())).device if values else torch.device("cpu")
        out = torch.zeros(len(self.labels), dtype=torch.float64, device=device)
        for name in mix.parameters:
            mix.add_products_(out, name, values[name], values[name])
        for blocks in grams:
            blocks.add_(out, values[blocks.parameter], values[blocks.parameter])
        if of_tangents:
            return out
        sizes = Displacement.of([self.displaced.sizes()], len(self.labels))
        return sizes.completed(out, sizes.sums(values))

    @cached_property
    def _parts(self) -> tuple[SliceMix, SliceMix, dict[str, list[GramBlocks]]]:
        charges, by_name = len(self.labels), dict[str, list[GramBlocks]]()
        for blocks in self.gram_blocks:
            by_name.setdefault(blocks.parameter, []).append(blocks)
        return SliceMix(charges, self.sums), SliceMix(charges, (*self.products, *self.unknown)), by_name

    @cached_property
    def _positive(self) -> tuple[SliceMix, list[GramBlocks]]:
        mix = SliceMix(len(self.labels), (*self.sums, *self.products)).absolute()
        return mix, [blocks.positive() for blocks in self.gram_blocks]


def local_charges(
    symmetries: Symmetries, params: Mapping[str, Tensor], holdings: Mapping[str, Holding]
) -> LocalCharges:
    """Every term of the charges, restricted to what this process holds of the parameters."""
    held = {name: one for name, one in holdings.items() if one.elements}
    shapes = {name: tuple(parameter.shape) for name, parameter in params.items()}
    sums: list[SliceTerm] = []
    products: list[SliceTerm] = []
    grams: list[GramBlocks] = []
    offsets: list[SliceTerm] = []
    constants: list[SliceTerm] = []
    cut = np.zeros(symmetries.charges, dtype=bool)
    for family, offset in zip(symmetries.charged, symmetries.offsets, strict=False):
        terms = family.action.charge_terms(offset)
        sums += [_slices(t, shapes[n], held[n]) for t in terms.sums if (n := t.view.parameter) in held]
        products += [_slices(t, shapes[n], held[n]) for t in terms.products if (n := t.view.parameter) in held]
        offsets += [_slices(t, shapes[n], held[n]) for t in terms.offsets if (n := t.view.parameter) in held]
        constants += [_slices(t, shapes[n], held[n]) for t in terms.constants if (n := t.view.parameter) in held]
        if terms.shares:
            raise ValueError(
                f"family {family.name!r} has charges that cannot be followed in shards; monitor this training in one "
                "process"
            )
        for blocks in terms.grams:
            cut[blocks.charges[_cut_blocks(blocks, params)].reshape(-1)] = True
            if blocks.parameter in held:
                grams += _grams(blocks, shapes[blocks.parameter], held[blocks.parameter])
    unknown = [_unknown(np.flatnonzero(cut), *one) for one in _matrices(held)[:1]] if cut.any() else []
    displaced = ChargeTerms(offsets=tuple(offsets), constants=tuple(constants))
    return LocalCharges(symmetries.labels, tuple(sums), tuple(products), tuple(grams), tuple(unknown), cut, displaced)


def size_of_sums(symmetries: Symmetries, sums: Float64[Tensor, " charges"]) -> Float64[Tensor, " charges"]:
    """The sizes: the sums themselves, √(Σ|c|·Σ|c|θ²) for translations, √(S_ii S_jj) for an entry of a linear block."""
    out = sums.clone()
    for family, begin, end in _spans(symmetries):
        terms = family.action.charge_terms(0)
        if terms.sums:
            counts = np.zeros(family.charges)
            for term in terms.sums:
                size = int(np.prod(term.view.shape, dtype=np.int64)) // max(term.view.size, 1)
                np.add.at(counts, term.charges, np.abs(term.coefficients) * size)
            out[begin:end] = (sums[begin:end] * torch.from_numpy(counts).to(sums)).sqrt()
        elif (width := _width(family)) > 0:
            rows, columns = torch.triu_indices(width, width, device=sums.device)
            diagonal = sums[begin:end].reshape(-1, len(rows))[:, rows == columns].sqrt()
            out[begin:end] = (diagonal[:, rows] * diagonal[:, columns]).reshape(-1)
    return out


def parameters_of(symmetries: Symmetries, charges: Mask) -> set[str]:
    """The parameters of the families that these charges belong to."""
    return {name for family, begin, end in _spans(symmetries) if charges[begin:end].any() for name in family.parameters}


def _spans(symmetries: Symmetries) -> Iterator[tuple[Family, int, int]]:
    return zip(symmetries.charged, symmetries.offsets, symmetries.offsets[1:], strict=False)


def _width(family: Family) -> int:
    """Channels of a linear block; 0 where the charges are not the entries of matrices."""
    shape = family.generator_shape
    return shape[-1] if len(shape) == 3 else 0


def _slices(term: SliceTerm, shape: tuple[int, ...], held: Holding) -> SliceTerm:
    """The coefficients of each slice, repeated for all parts of it that are seen here."""
    local = local_view(term.view, shape, held.indices)
    order = np.argsort(term.slices, kind="stable")
    known = np.asarray(term.slices)[order]
    first, last = (np.searchsorted(known, local.whole, side=side) for side in ("left", "right"))
    count = last - first
    part = np.repeat(np.arange(len(local.whole)), count)
    entry = order[np.arange(len(part)) + np.repeat(first - (np.cumsum(count) - count), count)]
    charges, coefficients = np.asarray(term.charges)[entry], np.asarray(term.coefficients)[entry]
    return SliceTerm(local.view, charges, part, coefficients * held.share)


def _grams(blocks: GramBlocks, shape: tuple[int, ...], held: Holding) -> Iterator[GramBlocks]:
    """The blocks that are held here as a whole."""
    local = local_view(blocks.view, shape, held.indices)
    rows = _rows(blocks, local.whole)
    full = (rows >= 0).all(axis=1) & local.aligned
    if full.any():
        signs = np.asarray(blocks.signs)[full] * held.share
        yield GramBlocks(local.view, rows[full], np.asarray(blocks.places)[full], signs)


def _unknown(charges: Numbers, name: str, held: Holding) -> SliceTerm:
    """A term that makes the charges nan: a number that this process cannot tell."""
    view = SliceView(name, tuple(len(along) for along in held.indices), (0,))
    return SliceTerm(view, charges, np.zeros(len(charges), dtype=np.int64), np.full(len(charges), np.nan))


def _matrices(held: Mapping[str, Holding]) -> list[tuple[str, Holding]]:
    return [(name, one) for name, one in held.items() if len(one.indices) > 1]


def _cut_blocks(blocks: GramBlocks, params: Mapping[str, Tensor]) -> Mask:
    """The linear blocks that are divided between processes, wherever; the same answer in each of them."""
    cut = np.zeros(len(blocks.slices), dtype=bool)
    parameter = params[blocks.parameter]
    for indices in everybodys(blocks.parameter, parameter):
        cut |= _divided(blocks, tuple(parameter.shape), indices)
    return cut


def _divided(blocks: GramBlocks, shape: tuple[int, ...], indices: Indices) -> Mask:
    local = local_view(blocks.view, shape, indices)
    there = _rows(blocks, local.whole) >= 0
    return np.asarray(there.any(axis=1) & ~(there.all(axis=1) & local.aligned))


def _rows(blocks: GramBlocks, whole: Numbers) -> Numbers:
    """The local slices that a block's channels are, -1 where they lie elsewhere."""
    place = np.full(blocks.view.size, -1, dtype=np.int64)
    place[whole] = np.arange(len(whole))
    found: Numbers = place[np.asarray(blocks.slices)]
    return found
