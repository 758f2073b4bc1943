"""From blocks of mixing channels to linear families: which channels of which parameters transform, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from neuralmechanics.slices import SliceView
from neuralmechanics.symmetry.algebra.linear_system import NullSpace
from neuralmechanics.symmetry.algebra.sets import distinct
from neuralmechanics.symmetry.domains.scaling.label import Label
from neuralmechanics.symmetry.families.actions import BlockLabels, ComplexPairs, GramTerm, LinearBlocks
from neuralmechanics.symmetry.families.family import Family
from neuralmechanics.symmetry.finding.reading.naming import named_family, subscript

__all__ = ["BlockGroup", "block_family", "gather_blocks", "pair_family"]

Displacing = Callable[[SliceView, np.ndarray], np.ndarray]  # which of these slices are counted from another point


@dataclass(frozen=True, eq=False)
class BlockGroup:
    """Blocks that touch the same parameters alike; ``names`` has one text each."""

    terms: tuple[GramTerm, ...]
    names: Sequence[str]
    width: int


def block_family(group: BlockGroup, requires: tuple[str, ...]) -> Family:
    """The family whose blocks any invertible matrix mixes."""
    action = LinearBlocks(group.terms, len(group.names))
    return named_family("linear", action, BlockLabels(group.names, group.width), requires)


def pair_family(group: BlockGroup, requires: tuple[str, ...]) -> Family:
    """The family whose blocks are pairs that a complex number scales and turns."""
    return named_family("linear", ComplexPairs(group.terms, len(group.names)), group.names, requires)


def gather_blocks(
    blocks: Sequence[np.ndarray], labels: Mapping[str, Label], space: NullSpace, displaced: Displacing | None = None
) -> tuple[list[BlockGroup], np.ndarray]:
    """One group for all blocks that touch the same parameters alike; and the basis vectors they account for.

    A block whose channels stand in a parameter in different numbers or with different signs is left to the rescalings,
    and so is one of slices that are ``displaced``: counted from another point than zero.
    """
    if not blocks:
        return [], np.zeros(0, np.int64)
    member = np.full(space.count, -1)
    for number, basis in enumerate(blocks):
        member[basis] = number
    pieces: dict[int, list[tuple[str, SliceView, np.ndarray, np.ndarray]]] = {}
    places: dict[int, list[tuple[int, bytes]]] = {}  # the array, and the signs of as many rows: hashed fast
    refused: set[int] = set()
    arrays: dict[tuple[str, SliceView], int] = {}
    for name, label in labels.items():
        for term in label.terms:
            view = SliceView(name, label.shape, tuple(d for d, n in enumerate(term.ids.shape) if n > 1))
            array = arrays.setdefault((name, view), len(arrays))
            for block, slices, signs in _rows(term.ids, float(term.coefficient), space, member, blocks):
                if slices is None or (displaced is not None and displaced(view, slices.reshape(-1)).any()):
                    refused.add(block)
                else:
                    pieces.setdefault(block, []).append((name, view, slices, signs))
                    places.setdefault(block, []).append((array, signs.tobytes()))
    groups: dict[object, list[int]] = {}
    for block in sorted(pieces):
        if block not in refused:
            groups.setdefault((len(blocks[block]), *places[block]), []).append(block)
    found = [_group(numbers, pieces, blocks) for numbers in groups.values()]
    used = [blocks[block] for numbers in groups.values() for block in numbers]
    return found, np.concatenate(used) if used else np.zeros(0, np.int64)


def _rows(
    ids: np.ndarray, coefficient: float, space: NullSpace, member: np.ndarray, blocks: Sequence[np.ndarray],
) -> list[tuple[int, np.ndarray | None, np.ndarray]]:  # fmt: skip
    """For each block in the array: its channels' slices, one row for each time that the block occurs."""
    slices, basis, value = space.entries(ids)
    keep = member[basis] >= 0
    slices, basis, value = slices[keep], basis[keep], value[keep] * coefficient
    order = np.lexsort((slices, basis, member[basis]))
    slices, basis, value = slices[order], basis[order], value[order]
    out: list[tuple[int, np.ndarray | None, np.ndarray]] = []
    alike = _all_alike(slices, basis, value, member, blocks)
    if alike is not None:
        return alike
    edges = np.flatnonzero(np.diff(member[basis], prepend=-1, append=-1)) if len(basis) else np.zeros(0, np.int64)
    for start, end in pairwise(edges.tolist()):
        block = int(member[basis[start]])
        one = _all_alike(slices[start:end], basis[start:end], value[start:end], member, blocks)
        out += one or [(block, None, np.zeros(0, np.int64))]
    return out


def _all_alike(
    slices: np.ndarray, basis: np.ndarray, value: np.ndarray, member: np.ndarray, blocks: Sequence[np.ndarray]
) -> list[tuple[int, np.ndarray | None, np.ndarray]] | None:
    """All blocks at once, where each of their channels stands equally often and with the same signs; else None.

    Entries come ordered by block, channel and slice.
    """
    if not len(basis):
        return []
    channels, counts = np.unique(basis, return_counts=True)
    present = distinct(member[channels])
    widths = {len(blocks[b]) for b in present.tolist()}
    # Only then all entries fill one table; otherwise each block is looked at by itself.
    if len(set(counts.tolist())) != 1 or len(widths) != 1 or len(channels) != len(present) * min(widths):
        return None
    shape = (len(present), min(widths), int(counts[0]))
    tables = slices.reshape(shape).transpose(0, 2, 1)
    signs = value.reshape(shape).transpose(0, 2, 1)
    # One sign a row, and no other power: its channels transform together, with A or with A⁻ᵀ.
    if not ((signs == signs[:, :, :1]).all() and (np.abs(signs) == 1).all()):
        return None
    return [
        (block, table, sign)
        for block, table, sign in zip(present.tolist(), tables, signs[:, :, 0].astype(np.int64), strict=True)
    ]


def _group(
    numbers: Sequence[int],
    pieces: Mapping[int, list[tuple[str, SliceView, np.ndarray, np.ndarray]]],
    blocks: Sequence[np.ndarray],
) -> BlockGroup:
    first = pieces[numbers[0]]
    sign = int(first[0][3][0])  # the first parameter's channels transform with A
    terms = []
    for k, (_, view, table, signs) in enumerate(first):
        slices = np.concatenate([pieces[n][k][2] for n in numbers])
        owners = np.repeat(np.arange(len(numbers)), len(table))
        terms.append(GramTerm(view, slices, owners, np.tile(signs * sign, len(numbers))))
    names = _BlockNames(first[0][1], [int(pieces[n][0][2][0, 0]) for n in numbers])
    return BlockGroup(tuple(terms), names, len(blocks[numbers[0]]))


class _BlockNames(Sequence[str]):
    """Each block by its first channel; the texts are made when they are asked for."""

    def __init__(self, view: SliceView, first: Sequence[int]) -> None:
        self._view = view
        self._first = first

    def __len__(self) -> int:
        return len(self._first)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[k] for k in range(*index.indices(len(self))))
        sizes = [self._view.shape[d] for d in self._view.kept]
        return self._view.parameter + subscript(self._view, self._first[index], sizes) + " block"
