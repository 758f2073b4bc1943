"""Members of a space: where its channels stand in a parameter, and which digits count which spaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter

from neuralmechanics.symmetry.domains.channels.layout import Leaf
from neuralmechanics.symmetry.families.actions.terms.gain import Dressing
from neuralmechanics.symmetry.families.spaces import Digit


@dataclass(frozen=True)
class Member:
    """A leaf of a parameter's dimension: where its channels stand, and which digits count which spaces."""

    parameter: str
    shape: tuple[int, ...]
    axis: int
    leaf: Leaf
    offset: int
    digits: tuple[tuple[int, int, int | None], ...]  # size, stride, space; its own channels last
    order: int

    @property
    def variable(self) -> int:
        """The number of its factors; those of a buffer are none."""
        return self.leaf.scale[0][0] if self.leaf.scale else -1 - self.order


def outer_members(member: Member, outer: Sequence[Member]) -> Iterator[Member]:
    """The members of an outer space whose index stands beside the member's: along its dimension, else elsewhere."""
    for m in outer:
        here = (m.parameter, m.axis, m.offset) == (member.parameter, member.axis, member.offset)
        if here and any(digit[:2] == m.digits[-1][:2] for digit in member.digits[:-1]):
            yield m
    for m in outer:
        if m.parameter == member.parameter and m.axis != member.axis:
            yield m


def digits_of(
    digits: Sequence[tuple[int, int, int | None]], copies: Sequence[int], own: bool = True
) -> Iterator[Digit]:
    """Digits by their role; ``own``: the last one counts channels."""
    for k, (size, stride, space) in enumerate(digits):
        if own and k == len(digits) - 1:
            yield Digit(size, stride)
        else:
            yield Digit(size, stride, copies.index(space) if space in copies else "rest")


def dressing_of(
    dressing: Dressing, copies: Sequence[int], sizes: Sequence[int], find: Callable[[int], int]
) -> Dressing | None:
    """The gains with their entries of each copy; None where they differ along what counts no copies.

    ``copies``: the spaces that count them, of these ``sizes``; ``find``: the space that another one is tied to.
    """
    found = []
    for gain, power in dressing:
        strides = {find(space): stride for _, stride, space in gain.copies}
        if not set(strides) <= set(copies) or len(strides) < len(gain.copies):
            return None
        counted = [(n, strides.get(space, 0), k) for k, (space, n) in enumerate(zip(copies, sizes, strict=True))]
        found.append((replace(gain, copies=tuple(counted) if strides else ()), power))
    return tuple(found)


def is_acyclic(graph: Mapping[int, Sequence[int]]) -> bool:
    """Whether no space is counted within itself, by way of others."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError:
        return False
    return True
