"""What is wanted of every parameter's products, measured in one read and mixed into charges."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices.blocks import row_column_sums
from neuralmechanics.slices.gram_plan import GramPlan
from neuralmechanics.slices.grams import GramBlocks
from neuralmechanics.slices.jobs import Bilinear, Jobs, Part, Products, Recipe
from neuralmechanics.slices.layout import MatrixLayout, matrix_layouts
from neuralmechanics.slices.memory_order import memory_order, ordered, real_view
from neuralmechanics.slices.mix import SliceMix
from neuralmechanics.slices.native.device import device_sums
from neuralmechanics.slices.native.library import library
from neuralmechanics.slices.native.runs import runs_of
from neuralmechanics.slices.sending import sent, weighed
from neuralmechanics.slices.views import SliceTerm

__all__ = ["Bilinear", "ProductPlan", "Products", "Recipe"]


@dataclass(frozen=True, eq=False)
class _Slot:
    """Where the sums of one matrix stand; a place is -1 where its side is not summed."""

    layout: MatrixLayout
    linear: bool
    row_place: int
    column_place: int

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """Rows, columns and the places of their sums."""
        return self.layout.rows, self.layout.columns, self.row_place, self.column_place

    @property
    def order(self) -> tuple[int, ...] | None:
        """The tensor's dimensions as the matrix has them."""
        return self.layout.order


class ProductPlan:
    """The sums over slices of all parameters on one device as one vector, and the sparse map from it to charges.

    Charges of linear blocks are added by a plan of their own. A parameter is read once for all forms of its
    operands (twice where it has translations or linear blocks too). On a processor the compiled library does each in
    one call; on a CUDA device kernels do the slices in a few launches, without waiting; where these can be had.
    """

    def __init__(
        self,
        charges: int,
        quadratic: SliceMix,
        linear: SliceMix,
        params: Mapping[str, Tensor],
        device: torch.device,
        grams: Iterable[GramBlocks] = (),
    ) -> None:
        self.charges = charges
        self._device = device
        self._slots: dict[str, list[_Slot]] = {}
        self._source: list[np.ndarray] = []
        self._charge: list[np.ndarray] = []
        self._weight: list[np.ndarray] = []
        self.places = 0
        for name, parameter in params.items():
            self._slots[name] = [
                *self._slots_of(quadratic.terms(name), parameter, linear=False),
                *self._slots_of(linear.terms(name), parameter, linear=True),
            ]
        self._library = library() if device.type == "cpu" else None
        entries = _joined(self._source, np.int32), _joined(self._charge, np.int32), _joined(self._weight, np.float64)
        # Needed only while the map is made: kept, they would hold it twice.
        self._source, self._charge, self._weight = [], [], []
        self._runs: np.ndarray | None = None
        if self._library is not None:
            self._runs = runs_of(*entries)
        else:
            self._map = tuple(torch.from_numpy(each).to(device) for each in entries)
        self._device_sums = device_sums(device)
        self._jobs = Jobs(self._parts)
        self._grams = GramPlan(grams, params, self._library)
        self._spread: dict[int, tuple[Tensor, ...]] = {}

    def holds(self, names: Collection[str]) -> bool:
        """Whether it was made for all of these parameters."""
        return self._slots.keys() >= names if isinstance(names, Set) else all(name in self._slots for name in names)

    def measure(
        self, given: Mapping[str, Products], forms: int, *, absolute: bool = False
    ) -> Float64[Tensor, "forms charges"]:
        """Every form of every charge; parameters that are not given contribute nothing.

        `absolute`: with the sizes of all coefficients in their place, and without linear blocks.
        """
        # Made anew: between steps a model of many charges has other uses for this memory.
        sums = torch.zeros(forms, self.places, dtype=torch.float64, device=self._device)
        if not self._compiled(given, sums):
            self._plain(given, sums)
        out = torch.zeros(forms, self.charges, dtype=torch.float64, device=self._device)
        if self._library is not None and self._runs is not None:
            self._library.add_mixed(sums, self._runs, out, absolute=absolute)
        elif self._device_sums is not None:
            first, places, scale = self._by_charge
            self._device_sums.mix(sums, first, places, scale.abs() if absolute else scale, out)
        else:
            place, target, scale = self._tiled(forms)
            out.view(-1).index_add_(0, target, sums.view(-1)[place] * (scale.abs() if absolute else scale))
        if not absolute:
            self._grams.add_(out, given)
        return out

    def _parts(self, given: Mapping[str, Products]) -> Iterator[Part]:
        """Every matrix of which something is wanted."""
        for name, products in given.items():
            for slot in self._slots[name]:
                bilinear = products.recipe.linear if slot.linear else products.recipe.quadratic
                if bilinear.pairs:
                    yield Part(name, products, slot, bilinear)

    @cached_property
    def _by_charge(self) -> tuple[Tensor, Tensor, Tensor]:
        """The map in the order of the charges: where the entries of each begin, their places and coefficients."""
        source, charge, weight = (each.cpu().numpy() for each in self._map)
        # A charge's entries side by side: a warp adds them without atomic operations, always in one order.
        order = np.argsort(charge, kind="stable")
        first = np.searchsorted(charge[order], np.arange(self.charges + 1)).astype(np.int32)
        return sent(first, self._device), sent(source[order], self._device), sent(weight[order], self._device)

    def _tiled(self, forms: int) -> tuple[Tensor, ...]:
        """The map for all forms one after the other."""
        if forms not in self._spread:
            source, charge, weight = self._map
            by = torch.arange(forms, device=self._device)[:, None]
            self._spread[forms] = (
                (source + by * self.places).reshape(-1).to(torch.int64),
                (charge + by * self.charges).reshape(-1).to(torch.int64),
                weight.repeat(forms),
            )
        return self._spread[forms]

    def _plain(self, given: Mapping[str, Products], sums: Tensor) -> None:
        for _, products, target, bilinear in self._parts(given):
            height, width, row_place, column_place = target.numbers
            operands = [ordered(operand, target.order) for operand in products.operands]
            rows, columns = row_column_sums(operands, bilinear.pairs, (height, width))
            weights = weighed(bilinear.weights, self._device)
            if row_place >= 0:
                sums[:, row_place : row_place + height] = weights @ rows
            if column_place >= 0:
                sums[:, column_place : column_place + width] = weights @ columns

    def _compiled(self, given: Mapping[str, Products], sums: Tensor) -> bool:
        """All sums by what is compiled; False where that does not know a type, or cannot hold what is wanted."""
        if self._library is None and self._device_sums is None:
            return False
        written = self._jobs.ready(given, len(sums))
        if written is None:
            return False
        addresses, copies = written.locate(given.values())
        if self._library is not None:
            threads = torch.get_num_threads()
            self._library.sums(written.where, len(written.jobs), addresses, written.weights_at, sums, threads)
        elif self._device_sums is not None:
            written.tables = written.tables or self._device_sums.prepare(written.jobs)
            if written.tables is None:
                return False
            self._device_sums.sums(
                written.tables, written.jobs, np.array(addresses, dtype=np.int64), written.weights, sums
            )
        del copies  # until here they were read
        return True

    def _slots_of(self, terms: Sequence[SliceTerm], parameter: Tensor, *, linear: bool) -> list[_Slot]:
        """Places for the sums of one parameter, and their entries in the map."""
        if not terms or not parameter.numel():
            return []
        views = [real_view(term.view, parameter) for term in terms]
        shape = (*parameter.shape, 2) if parameter.is_complex() else tuple(parameter.shape)
        order = memory_order(parameter)
        slots = []
        for layout, held in matrix_layouts(views, shape, order):
            row_place = self._reserve(layout.rows) if layout.sums_rows else -1
            column_place = self._reserve(layout.columns) if layout.sums_columns else -1
            # The map has from here on what the slices say; kept, they would take as much memory as the sums.
            slots.append(_Slot(replace(layout, slices=()), linear, row_place, column_place))
            for k, by_rows, slice_of in zip(held, layout.by_rows, layout.slices, strict=True):
                self._enter(terms[k], views[k].size, slice_of, row_place if by_rows else column_place)
        return slots

    def _reserve(self, count: int) -> int:
        place, self.places = self.places, self.places + count
        return place

    def _enter(self, term: SliceTerm, slices: int, slice_of: np.ndarray, place: int) -> None:
        """A term's coefficients, repeated for every row or column that a slice consists of."""
        # Slices of one view are equally large, so sorting by slice gives a rectangle: one line for each of them.
        members = np.argsort(slice_of, kind="stable").reshape(slices, -1)
        each = members.shape[1]
        self._source.append((members[term.slices] + place).reshape(-1))
        self._charge.append(np.repeat(term.charges, each))
        self._weight.append(np.repeat(term.coefficients, each))


def _joined(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype=dtype)
