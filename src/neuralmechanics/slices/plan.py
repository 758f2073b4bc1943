"""What is wanted of every parameter's products, measured in one read and mixed into charges."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices.accelerated import Tables, device_sums, sent
from neuralmechanics.slices.blocks import Operand, Pair, Sort, row_column_sums, sort_of
from neuralmechanics.slices.compiled import JOB, OPERANDS, PAIRS, TYPES, addresses_of, fill_constants, fill_job, library
from neuralmechanics.slices.layout import MatrixLayout, matrix_layouts
from neuralmechanics.slices.memory_order import in_memory, memory_order, ordered, real_view
from neuralmechanics.slices.mix import SliceMix
from neuralmechanics.slices.views import SliceTerm

__all__ = ["Bilinear", "ProductPlan", "Products", "Recipe"]

# Sets of jobs that are kept written down: a training repeats a few.
_REMEMBERED = 16


@dataclass(frozen=True, eq=False)
class Bilinear:
    """Forms of a matrix's operands: form f is Σ_p weights[f, p] · left_p · right_p, summed over slices."""

    pairs: tuple[Pair, ...]
    weights: np.ndarray | Tensor
    """[forms, pairs]; a tensor where a hyperparameter lives on an accelerator"""


@dataclass(frozen=True, eq=False)
class Recipe:
    """The forms wanted of one parameter: of its quadratic charges' slices, and of its translations'."""

    quadratic: Bilinear
    linear: Bilinear

    @cached_property
    def structure(self) -> tuple[tuple[Pair, ...], tuple[Pair, ...], bool]:
        """Equal for recipes that differ in the values of their weights alone."""
        on_host = not isinstance(self.quadratic.weights, Tensor)
        return self.quadratic.pairs, self.linear.pairs, on_host


@dataclass(frozen=True, eq=False)
class Products:
    """One parameter's operands in a step, and what is wanted of them."""

    operands: tuple[Operand, ...]
    recipe: Recipe


@dataclass(frozen=True, eq=False)
class _Slot:
    """Where the sums of one matrix stand; a place is -1 where its side is not summed."""

    layout: MatrixLayout
    linear: bool
    row_place: int
    column_place: int


class _Key(NamedTuple):
    """What is wanted of which parameter, as far as it tells how jobs are written down."""

    forms: int
    structures: tuple[tuple[str, object], ...]


class _Written:
    """Jobs of the library as they were written down once; from step to step addresses change, weights now and then."""

    def __init__(self, jobs: np.ndarray, sorts: list[Sort], *, whole: bool) -> None:
        self.jobs = jobs
        self.sorts = sorts
        self.whole = whole
        self.weights = np.zeros(0)
        self.where = int(jobs.ctypes.data)
        self.weights_at = int(self.weights.ctypes.data)
        self._recipes: list[Recipe] = []
        self.tables: Tables | None = None
        """what an accelerator is given of the jobs"""
        jobs["addresses"] = np.cumsum(jobs["operands"]) - jobs["operands"]

    def weigh(self, recipes: list[Recipe], each: Callable[[], Iterator[Bilinear]]) -> None:
        """Write the weights of all jobs, where they are not those that are written."""
        if _same(recipes, self._recipes):
            return
        self._recipes = recipes
        self.weights = _joined([np.asarray(bilinear.weights).reshape(-1) for bilinear in each()], np.float64)
        self.weights_at = int(self.weights.ctypes.data)


class ProductPlan:
    """The sums over slices of all parameters on one device as one vector, and the sparse map from it to charges.

    A parameter is read once for all forms of its operands (twice where it has translations too, which are few). On a
    processor the compiled library does all of it in one call, on a CUDA device its kernels do it in a few launches,
    where they can be had.
    """

    def __init__(
        self, charges: int, quadratic: SliceMix, linear: SliceMix, params: Mapping[str, Tensor], device: torch.device
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
        self._map = (
            torch.from_numpy(_joined(self._source, np.int32)).to(device),
            torch.from_numpy(_joined(self._charge, np.int32)).to(device),
            torch.from_numpy(_joined(self._weight, np.float64)).to(device),
        )
        self._source, self._charge, self._weight = [], [], []
        self._library = library() if device.type == "cpu" else None
        self._accelerated = device_sums(device)
        self._written: dict[_Key, _Written] = {}
        self._last: tuple[list[str], list[Recipe], _Key] | None = None
        self._spread: dict[int, tuple[Tensor, ...]] = {}

    def holds(self, names: Collection[str]) -> bool:
        """Whether it was made for all of these parameters."""
        return self._slots.keys() >= names if isinstance(names, Set) else all(name in self._slots for name in names)

    def measure(self, given: Mapping[str, Products], forms: int) -> Float64[Tensor, "forms charges"]:
        """Every form of every charge; parameters that are not given contribute nothing."""
        # Made anew: between steps a model of many charges has other uses for this memory.
        sums = torch.zeros(forms, self.places, dtype=torch.float64, device=self._device)
        compiled = self._library is not None or self._accelerated is not None
        if not compiled or not self._compiled(given, sums):
            self._plain(given, sums)
        out = torch.zeros(forms, self.charges, dtype=torch.float64, device=self._device)
        source, charge, weight = self._map
        if self._library is not None:
            self._library.add_mixed(sums, source, charge, weight, out)
            return out
        if self._accelerated is not None:
            self._accelerated.mix(sums, *self._by_charge, out)
            return out
        place, target, scale = self._tiled(forms)
        out.view(-1).index_add_(0, target, sums.view(-1)[place] * scale)
        return out

    def _parts(self, given: Mapping[str, Products]) -> Iterator[tuple[Products, _Slot, Bilinear]]:
        """Every matrix of which something is wanted."""
        for name, products in given.items():
            for slot in self._slots[name]:
                bilinear = products.recipe.linear if slot.linear else products.recipe.quadratic
                if bilinear.pairs:
                    yield products, slot, bilinear

    @cached_property
    def _by_charge(self) -> tuple[Tensor, Tensor, Tensor]:
        """The map in the order of the charges: where the entries of each begin, their places and coefficients."""
        source, charge, weight = (each.cpu().numpy() for each in self._map)
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
        for products, slot, bilinear in self._parts(given):
            shape = (slot.layout.rows, slot.layout.columns)
            operands = [ordered(operand, slot.layout.order) for operand in products.operands]
            rows, columns = row_column_sums(operands, bilinear.pairs, shape)
            weights = bilinear.weights
            if not isinstance(weights, Tensor):
                weights = sent(np.asarray(weights, dtype=np.float64), self._device)
            weights = weights.to(self._device, torch.float64)
            if slot.row_place >= 0:
                sums[:, slot.row_place : slot.row_place + shape[0]] = weights @ rows
            if slot.column_place >= 0:
                sums[:, slot.column_place : slot.column_place + shape[1]] = weights @ columns

    def _compiled(self, given: Mapping[str, Products], sums: Tensor) -> bool:
        """All sums by the library; False where it does not know a type, or cannot hold what is wanted."""
        recipes = [products.recipe for products in given.values()]
        written = self._writing(given, len(sums), recipes)
        if not written.whole:
            return False
        written.weigh(recipes, lambda: (bilinear for _, _, bilinear in self._parts(given)))
        addresses: list[int] = []
        kept: list[Operand] = []  # copies live until the library has read them
        for number, (products, slot, _) in enumerate(self._parts(given)):
            order = slot.layout.order
            for k, operand in enumerate(products.operands):
                if order is None and isinstance(operand, Tensor) and operand.is_contiguous():  # nearly always
                    addresses += (operand.data_ptr(), 0)
                    continue
                plain = in_memory(operand, order)
                kept.append(plain)
                addresses += addresses_of(plain)
                if not isinstance(plain, Tensor):
                    fill_constants(written.jobs[number]["operand"][k], plain)
        if self._accelerated is not None:
            written.tables = written.tables or self._accelerated.prepare(written.jobs)
            if written.tables is None:
                return False
            self._accelerated.sums(written.tables, written.jobs, addresses, written.weights, sums)
            return True
        assert self._library is not None
        self._library.sums(
            written.where,
            len(written.jobs),
            np.array(addresses, dtype=np.int64),
            written.weights_at,
            sums,
            torch.get_num_threads(),
        )
        return True

    def _writing(self, given: Mapping[str, Products], forms: int, recipes: list[Recipe]) -> _Written:
        """The jobs for these matrices, written down the first time."""
        key = self._key(list(given), forms, recipes)
        known = self._written.get(key)
        sorts = [sort_of(operand) for products in given.values() for operand in products.operands]
        if known is None or known.sorts != sorts:
            if len(self._written) >= _REMEMBERED:
                self._written.clear()
            known = self._written[key] = self._write(given, forms, sorts)
        return known

    def _key(self, names: list[str], forms: int, recipes: list[Recipe]) -> _Key:
        """Equal for work that is written down alike; the key of the last work, where it is the same once more."""
        last = self._last
        if last is None or last[0] != names or last[2].forms != forms or not _same(last[1], recipes):
            structures = tuple((name, recipe.structure) for name, recipe in zip(names, recipes, strict=True))
            self._last = last = names, recipes, _Key(forms, structures)
        return last[2]

    def _write(self, given: Mapping[str, Products], forms: int, sorts: list[Sort]) -> _Written:
        parts = list(self._parts(given))
        if not all(_known(products, bilinear) for products, _, bilinear in parts):
            return _Written(np.zeros(0, dtype=JOB), sorts, whole=False)
        jobs, offset = np.zeros(len(parts), dtype=JOB), 0
        for number, (products, slot, bilinear) in enumerate(parts):
            shape, places = (slot.layout.rows, slot.layout.columns), (slot.row_place, slot.column_place)
            fill_job(jobs[number], products.operands, bilinear.pairs, shape, places, forms=forms, weights=offset)
            offset += forms * len(bilinear.pairs)
        return _Written(jobs, sorts, whole=True)

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
            slots.append(_Slot(replace(layout, slices=()), linear, row_place, column_place))
            for k, by_rows, slice_of in zip(held, layout.by_rows, layout.slices, strict=True):
                self._enter(terms[k], views[k].size, slice_of, row_place if by_rows else column_place)
        return slots

    def _reserve(self, count: int) -> int:
        place, self.places = self.places, self.places + count
        return place

    def _enter(self, term: SliceTerm, slices: int, slice_of: np.ndarray, place: int) -> None:
        """A term's coefficients, repeated for every row or column that a slice consists of."""
        members = np.argsort(slice_of, kind="stable").reshape(slices, -1)
        each = members.shape[1]
        self._source.append((members[term.slices] + place).reshape(-1))
        self._charge.append(np.repeat(term.charges, each))
        self._weight.append(np.repeat(term.coefficients, each))


def _same(some: list[Recipe], others: list[Recipe]) -> bool:
    """Whether two lists are of the very same recipes."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _known(products: Products, bilinear: Bilinear) -> bool:
    """Whether the library can take a matrix: its types, how many operands and pairs, weights on the host."""
    tensors = [t for o in products.operands for t in ((o,) if isinstance(o, Tensor) else (o.first, o.second))]
    return (
        all(t.dtype in TYPES for t in tensors)
        and all(isinstance(o, Tensor) or o.first.dtype == o.second.dtype for o in products.operands)
        and len(products.operands) <= OPERANDS
        and len(bilinear.pairs) <= PAIRS
        and not isinstance(bilinear.weights, Tensor)
    )


def _joined(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype=dtype)
