"""A value of the relabeled model in terms of the values of the model as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from neuralmechanics.symmetry.finding.blocks.relabelling.terms import UnfollowedError

__all__ = ["Moved", "Order", "Rows", "composed", "inverse"]


@dataclass(frozen=True)
class Rows:
    """An order of rows that the data decide: as the rows of the sort of ``term``, or back again."""

    term: int
    back: bool = False


Order = tuple[int, ...] | Rows


def inverse(order: Order) -> Order:
    """The order that takes it back."""
    if isinstance(order, Rows):
        return Rows(order.term, not order.back)
    out = [0] * len(order)
    for k, n in enumerate(order):
        out[n] = k
    return tuple(out)


def composed(first: Order, second: Order) -> Order | None:
    """k to first[second[k]]; None where all stays where it is."""
    if isinstance(first, tuple) and isinstance(second, tuple):
        out = tuple(first[k] for k in second)
        return None if out == tuple(range(len(out))) else out
    if first == inverse(second):
        return None
    raise UnfollowedError("two orders of rows, one behind the other")


@dataclass(frozen=True)
class Moved:
    """``term`` with entry k along dimension d what was entry dims[d][k]; its entries n, integers, become names[n].

    ``delta``: multiples of further terms that are added, for sums of which not all parts have been met yet.
    ``number``: all entries are one number, so that any order of them is the same.
    """

    term: int
    dims: Mapping[int, Order] = field(default_factory=dict)
    names: Order | None = None
    delta: Mapping[int, float] = field(default_factory=dict)
    number: bool = False

    @property
    def plain(self) -> bool:
        """Whether entries stand where they stood and are called what they were called."""
        return not self.dims and self.names is None and not self.delta


def common(orders: Sequence[Order | None]) -> Order | None:
    """The one order of several tensors that meet entry by entry."""
    met: list[Order | None] = []
    for order in orders:
        if order not in met:
            met.append(order)
    if len(met) > 1:
        raise UnfollowedError("entries in different orders meet")
    return met[0] if met else None


def added(parts: Iterable[tuple[int, float]]) -> dict[int, float]:
    """Multiples of terms, without those that cancel."""
    out: dict[int, float] = {}
    for term, times in parts:
        out[term] = out.get(term, 0.0) + times
    return {term: times for term, times in sorted(out.items()) if times}
