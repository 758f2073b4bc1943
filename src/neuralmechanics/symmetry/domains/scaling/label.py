"""Labels of tensors under a scaling: sums of compressed arrays of variables, and their algebra."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

__all__ = ["Choice", "Label", "LabelTerm", "Origin", "apart", "lettered", "linked", "simpler", "without_dims"]

Shape = tuple[int, ...]
Origin = tuple[str, int]


@dataclass(frozen=True)
class Choice:
    """Rows of a table picked by an index: ``key`` names the index, ``dims`` are the dimensions that it runs along.

    Equal choices pick the same row at the same place. Dimensions of the index with one entry are left out.
    """

    key: Hashable
    dims: tuple[int, ...]
    rows: int


@dataclass(frozen=True, eq=False)
class LabelTerm:
    """coefficient·variable[index], compressed. ``origin``: (parameter or its slice, the term's place in its label).

    With a ``choice``, the array has one more axis at the end, over the rows that the index picks from.
    """

    coefficient: Fraction
    ids: np.ndarray
    origin: Origin | None = None
    choice: Choice | None = None

    def dims(self) -> frozenset[int]:
        """The tensor's dimensions along which the array differs."""
        return frozenset(d for d, n in enumerate(self.ids.shape[:-1] if self.choice else self.ids.shape) if n > 1)


@dataclass(frozen=True, eq=False)
class Label:
    """The log-scale of every element of a tensor with this shape; no terms: unchanged."""

    shape: Shape
    terms: tuple[LabelTerm, ...] = ()


def linked(terms: Sequence[LabelTerm], dims: frozenset[int]) -> list[list[LabelTerm]]:
    """Groups of terms that share a bound dimension, directly or through others."""
    groups: list[tuple[frozenset[int], list[LabelTerm]]] = []
    for term in terms:
        touched = term.dims() & dims
        members = [term]
        rest = []
        for other, group in groups:
            if other & touched:
                touched |= other
                members = group + members
            else:
                rest.append((other, group))
        groups = [*rest, (touched, members)]
    return [members for _, members in groups]


def lettered(term: LabelTerm, letters: str, order: Sequence[str]) -> LabelTerm:
    """The term's array with one axis for each letter of ``order``."""
    present = [letter for letter in order if letter in letters]
    moved = term.ids.transpose([letters.index(letter) for letter in present])
    sizes = [moved.shape[present.index(letter)] if letter in present else 1 for letter in order]
    return replace(term, ids=moved.reshape(sizes))


def without_dims(x: Label, dims: Sequence[int], keepdim: bool) -> Label:
    bound = {d % len(x.shape) for d in dims} if x.shape else set()
    if keepdim:
        return Label(tuple(1 if d in bound else n for d, n in enumerate(x.shape)), x.terms)
    kept = [d for d in range(len(x.shape)) if d not in bound]
    terms = []
    for t in x.terms:
        rows = t.ids.shape[len(x.shape) :]
        choice = t.choice and replace(t.choice, dims=tuple(kept.index(d) for d in t.choice.dims))
        terms.append(replace(t, ids=t.ids.reshape((*(t.ids.shape[d] for d in kept), *rows)), choice=choice))
    return Label(tuple(x.shape[d] for d in kept), tuple(terms))


def simpler(left: Sequence[LabelTerm], right: Sequence[LabelTerm]) -> bool:
    """Which of two equal labels to carry on: fewer terms, and of those the one with fewer entries."""
    # The label is read by all that follows, so the smaller of two that are equal saves most.
    return (len(left), sum(t.ids.size for t in left)) <= (len(right), sum(t.ids.size for t in right)) or not right


def apart(parts: Sequence[Label], dim: int) -> tuple[list[Label], tuple[LabelTerm, ...]]:
    """Labels without the terms that stand in all of them and are constant along a dimension, and these.

    So channels and common factors stay apart, of which one array of sums would know only the sums. Labels of one term
    are left as they are.
    """
    if max(len(x.terms) for x in parts) < 2:
        return [*parts], ()
    found = [t for t in parts[0].terms if t.ids.shape[dim] == 1 and all(_among(t, x.terms) for x in parts)]
    rest = [Label(x.shape, tuple(t for t in x.terms if not _among(t, found))) for x in parts]
    return rest, tuple(replace(t, origin=None) for t in found)


def _among(term: LabelTerm, terms: Sequence[LabelTerm]) -> bool:
    return any(t.coefficient == term.coefficient and np.array_equal(t.ids, term.ids) for t in terms)
