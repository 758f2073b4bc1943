"""Work for the compiled library, written down once and given to it step by step."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from neuralmechanics.slices.blocks import Operand, Pair, Sort, sort_of
from neuralmechanics.slices.memory_order import in_memory
from neuralmechanics.slices.native.device import Tables
from neuralmechanics.slices.native.job_layout import JOB, OPERANDS, PAIRS, TYPES, addresses_of, fill_constants, fill_job

__all__ = ["Bilinear", "Jobs", "Part", "Products", "Recipe", "Target", "Written"]

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
        # Whether jobs can be written down at all hangs on where the weights lie and is decided once a key: without this
        # a step with weights on an accelerator would be given jobs that were written for the host.
        on_host = not isinstance(self.quadratic.weights, Tensor)
        return self.quadratic.pairs, self.linear.pairs, on_host


@dataclass(frozen=True, eq=False)
class Products:
    """One parameter's operands in a step, and what is wanted of them."""

    operands: tuple[Operand, ...]
    recipe: Recipe


class Target(Protocol):
    """How a tensor is read, and where what is made of it goes."""

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """What a job begins with."""

    @property
    def order(self) -> tuple[int, ...] | None:
        """The tensor's dimensions as they are read; None for their own order."""


class Part(NamedTuple):
    """A tensor's operands, one way of reading them, and what is wanted of them."""

    name: str
    products: Products
    target: Target
    bilinear: Bilinear


class _Read(NamedTuple):
    """One job of a tensor: its number, and the order of the dimensions that it reads."""

    number: int
    order: tuple[int, ...] | None


class _Key(NamedTuple):
    """What is wanted of which parameter, as far as it tells how jobs are written down."""

    forms: int
    structures: tuple[tuple[str, object], ...]


class Written:
    """Jobs as they were written down once; from step to step addresses change, weights now and then."""

    def __init__(self, jobs: np.ndarray, sorts: list[Sort], reads: list[list[_Read]], *, whole: bool) -> None:
        self.jobs = jobs
        self.sorts = sorts
        self.reads = reads
        """one list for each tensor that is given: its jobs"""
        self.whole = whole
        self.weights = np.zeros(0)
        # numpy makes an object each time it is asked for an address, and every step needs these, which seldom change.
        self.where = int(jobs.ctypes.data)
        self.weights_at = int(self.weights.ctypes.data)
        self._recipes: list[Recipe] = []
        self.tables: Tables | None = None
        """what an accelerator was given of the jobs"""
        # The sum of all counts before its own: where the addresses of a job's operands begin in the table of `locate`.
        jobs["addresses"] = np.cumsum(jobs["operands"]) - jobs["operands"]

    def weigh(self, recipes: list[Recipe], each: Callable[[], Iterator[Part]]) -> None:
        """Write the weights of all jobs, where they are not those that are written."""
        if _same(recipes, self._recipes):
            return
        self._recipes = recipes
        weights = [np.asarray(part.bilinear.weights, dtype=np.float64).reshape(-1) for part in each()]
        self.weights = np.concatenate(weights) if weights else np.zeros(0)
        self.weights_at = int(self.weights.ctypes.data)

    def locate(self, given: Iterable[Products]) -> tuple[array[int], list[Operand]]:
        """Where the tensors of all jobs lie, two addresses an operand; and copies, to be kept until all is read."""
        addresses: list[int] = []
        kept: list[Operand] = []
        for products, reads in zip(given, self.reads, strict=True):
            for number, order in reads:
                for k, operand in enumerate(products.operands):
                    if order is None and isinstance(operand, Tensor) and operand.is_contiguous():  # nearly always
                        addresses += (operand.data_ptr(), 0)
                        continue
                    plain = in_memory(operand, order)
                    kept.append(plain)
                    addresses += addresses_of(plain)
                    if not isinstance(plain, Tensor):
                        fill_constants(self.jobs[number]["operand"][k], plain)
        return array("q", addresses), kept


class Jobs:
    """The jobs of a plan: `parts` are those of the tensors given in a step, one tensor after the other."""

    def __init__(self, parts: Callable[[Mapping[str, Products]], Iterator[Part]]) -> None:
        self._parts = parts
        self._written: dict[_Key, Written] = {}
        self._last: tuple[list[str], list[Recipe], _Key] | None = None

    def ready(self, given: Mapping[str, Products], forms: int) -> Written | None:
        """The jobs of this step; None where the library does not know a type, or cannot hold what is wanted."""
        recipes = [products.recipe for products in given.values()]
        written = self._writing(given, forms, recipes)
        if not written.whole:
            return None
        written.weigh(recipes, lambda: self._parts(given))
        return written

    def _writing(self, given: Mapping[str, Products], forms: int, recipes: list[Recipe]) -> Written:
        """The jobs for these tensors, written down the first time."""
        key = self._key(list(given), forms, recipes)
        known = self._written.get(key)
        sorts = [sort_of(operand) for products in given.values() for operand in products.operands]
        # The types are no part of the key: a model that is cast halfway replaces its jobs instead of keeping both.
        if known is None or known.sorts != sorts:
            if len(self._written) >= _REMEMBERED:
                self._written.clear()
            known = self._written[key] = _write(list(self._parts(given)), list(given), forms, sorts)
        return known

    def _key(self, names: list[str], forms: int, recipes: list[Recipe]) -> _Key:
        """Equal for work that is written down alike; the key of the last work, where it is the same once more."""
        last = self._last
        if last is None or last[0] != names or last[2].forms != forms or not _same(last[1], recipes):
            structures = tuple((name, recipe.structure) for name, recipe in zip(names, recipes, strict=True))
            self._last = last = names, recipes, _Key(forms, structures)
        return last[2]


def _write(parts: Sequence[Part], names: Sequence[str], forms: int, sorts: list[Sort]) -> Written:
    if not all(_known(part.products, part.bilinear) for part in parts):
        return Written(np.zeros(0, dtype=JOB), sorts, [], whole=False)
    jobs, offset = np.zeros(len(parts), dtype=JOB), 0
    reads: dict[str, list[_Read]] = {name: [] for name in names}
    for number, (name, products, target, bilinear) in enumerate(parts):
        fill_job(jobs[number], products.operands, bilinear.pairs, target.numbers, forms=forms, weights=offset)
        reads[name].append(_Read(number, target.order))
        offset += forms * len(bilinear.pairs)
    return Written(jobs, sorts, list(reads.values()), whole=True)


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
