"""The charges of linear blocks of all parameters on one device, measured a tensor at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices.grams import GramBlocks, add_forms_, extents
from neuralmechanics.slices.jobs import Jobs, Part, Products
from neuralmechanics.slices.native.job_layout import BLOCK
from neuralmechanics.slices.native.library import Library

__all__ = ["GramPlan"]

# Channels of a block above which torch's product of matrices does better than the library's.
_WIDEST = 160


@dataclass(frozen=True, eq=False)
class _Slot:
    """The blocks of one view of a parameter, and the view as outer × channels × inner."""

    blocks: GramBlocks
    numbers: tuple[int, int, int, int]
    order: tuple[int, ...] | None = None


class _Table(NamedTuple):
    """Blocks in the order of their places, where groups that share a place begin, and their channels."""

    slots: list[_Slot]
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray]


class GramPlan:
    """Blocks of channels by parameter, and how each is read: by the compiled library where it can."""

    def __init__(self, grams: Iterable[GramBlocks], params: Mapping[str, Tensor], library: Library | None) -> None:
        self._library = library
        self._slots: dict[str, list[_Slot]] = {}
        self._plain: dict[str, list[GramBlocks]] = {}
        for blocks in grams:
            name = blocks.parameter
            if name not in params or not params[name].numel():
                continue
            # The library walks outer × channels × inner; kept dimensions that stand apart are left to torch.
            seen = extents(blocks.view) if library is not None and blocks.width <= _WIDEST else None
            if seen is None:
                self._plain.setdefault(name, []).append(blocks)
            else:
                self._slots.setdefault(name, []).append(_Slot(blocks, (*seen, 0)))
        self._jobs = Jobs(self._parts)
        self._table = _Table([], _tabled([]))

    def add_(self, out: Float64[Tensor, "forms charges"], given: Mapping[str, Products]) -> None:
        """Adds every form of the parameters that are given."""
        if not self._slots and not self._plain:
            return
        compiled = {name: products for name, products in given.items() if name in self._slots}
        plain = {name: self._plain[name] for name in given if name in self._plain}
        if compiled and not self._compiled(out, compiled):
            # A sum of two lists is a new one: those in `self._plain` must not grow from step to step.
            plain |= {name: [s.blocks for s in self._slots[name]] + plain.get(name, []) for name in compiled}
        for name, held in plain.items():
            products = given[name]
            for blocks in held:
                form = products.recipe.quadratic
                add_forms_(out, blocks, products.operands, form.pairs, form.weights)

    def _parts(self, given: Mapping[str, Products]) -> Iterator[Part]:
        for name, products in given.items():
            bilinear = products.recipe.quadratic
            if bilinear.pairs:
                for slot in self._slots[name]:
                    yield Part(name, products, slot, bilinear)

    def _compiled(self, out: Tensor, given: Mapping[str, Products]) -> bool:
        written = self._jobs.ready(given, len(out))
        if written is None:
            return False
        addresses, copies = written.locate(given.values())
        slots = [slot for name in given for slot in self._slots[name] if given[name].recipe.quadratic.pairs]
        # Slots compare by identity: a table is written anew only where other parameters are measured.
        if slots != self._table.slots:
            self._table = _Table(slots, _tabled([slot.blocks for slot in slots]))
        assert self._library is not None
        threads = torch.get_num_threads()
        self._library.grams(written.where, self._table.arrays, addresses, written.weights_at, out, threads)
        del copies  # until here they were read
        return True


def _tabled(held: Sequence[GramBlocks]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    blocks = np.zeros(sum(len(each.slices) for each in held), dtype=BLOCK)
    at = first = 0
    for number, each in enumerate(held):
        of = blocks[at : at + len(each.slices)]
        of["job"], of["width"], of["place"], of["sign"] = number, each.width, each.places, each.signs
        of["first"] = first + each.width * np.arange(len(of))
        at, first = at + len(of), first + each.slices.size
    # Blocks that add to the same charges follow one another and become one group: a group is one thread's work, so no
    # two threads add to one number, and the last bit does not depend on their number.
    blocks = blocks[np.argsort(blocks["place"], kind="stable")]
    begins = np.flatnonzero(np.diff(blocks["place"], prepend=-1))
    channels = np.concatenate([each.slices.reshape(-1) for each in held]) if held else np.zeros(0)
    return blocks, np.append(begins, len(blocks)).astype(np.int64), channels.astype(np.int64)
