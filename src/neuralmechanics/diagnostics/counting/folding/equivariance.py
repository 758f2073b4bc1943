"""Which relabelings a model's functions allow, read from what the functions do.

Each dimension is tried alone, at a place where parameters and inputs are the same for every value of the digit along
all other dimensions: those that would have to go along then need not. What passes is taken together and verified at a
generic place, where nothing but a relabeling of all functions gives the same values in another order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.utils import _pytree as pytree

from neuralmechanics.diagnostics.counting.folding.relabeling import (
    Digit,
    digits_of,
    mixed,
    moved_indices,
    rolled,
    rolled_values,
)
from neuralmechanics.diagnostics.counting.point_moves import drawn
from neuralmechanics.diagnostics.counting.potentials import Potentials
from neuralmechanics.functional.inputs import pick, resample

__all__ = ["Relabeling", "relabelings"]

_VALUES = -1  # in the place of a dimension: the values of an integer tensor are what is relabelled
_SAME = 1e-9  # relative change below which functions are the same; a wrong relabeling changes them by about 1
_TRIALS = 2
_MOST_INDICES = 3


@dataclass(frozen=True, eq=False)
class Relabeling:
    """A digit, and the dimensions of each parameter along which it goes round."""

    digit: Digit
    parameters: tuple[tuple[int, ...], ...]
    indices: Int64[Tensor, " D"]

    @property
    def moved(self) -> int:
        """Number of parameters that are moved."""
        return int((self.indices != torch.arange(len(self.indices))).sum())


def relabelings(potentials: Potentials) -> list[Relabeling]:
    """All that can be verified, the digits of small order and stride first.

    One that leaves every function as it is (of hidden channels alone) is left out: at a place that it does not move
    gradients do not tell its channels apart.
    """
    lengths = [length for shape in potentials.shapes for length in shape]
    found = (_Trial(potentials, digit).relabeling() for digit in digits_of(lengths))
    return [one for one in found if one is not None]


class _Trial:
    """One digit tried at random places of a model; the random numbers are its own."""

    def __init__(self, potentials: Potentials, digit: Digit) -> None:
        self.potentials = potentials
        self.digit = digit
        self.generator = torch.Generator().manual_seed(0)
        leaves, self.structure = pytree.tree_flatten(potentials.batch)
        self.template = leaves

    def relabeling(self) -> Relabeling | None:
        """The one of all dimensions that pass alone, if together they pass, too.

        Indices (tokens, classes) cannot be made the same for all values of the digit: whether they are relabelled is
        fixed first, for all of them, some or none.
        """
        listed = [k for k, leaf in enumerate(self.template) if self._closed(leaf)][:_MOST_INDICES]
        for count in range(len(listed), -1, -1):
            for chosen in combinations(listed, count):
                found = self._with([(k, _VALUES) for k in chosen])
                if found is not None:
                    return found
        return None

    def _with(self, values: list[tuple[int, int]]) -> Relabeling | None:
        shapes = self.potentials.shapes
        places = [(k, dim) for k, shape in enumerate(shapes) for dim in self._candidates(shape)]
        moved = [place for place in places if self._passes([place], values)]
        if not moved:
            return None
        feeds = [
            (k, dim) for k, x in enumerate(self.template) if isinstance(x, Tensor) for dim in self._candidates(x.shape)
        ]
        fed = values + [place for place in feeds if self._passes([], [*values, place])]
        if not self._passes(moved, fed, generic=True) or not self._tells(moved):
            return None
        parameters = tuple(tuple(d for k, d in moved if k == at) for at in range(len(shapes)))
        return Relabeling(self.digit, parameters, moved_indices(shapes, self.digit, parameters))

    def _candidates(self, shape: Iterable[int]) -> list[int]:
        return [dim for dim, length in enumerate(shape) if self.digit.divides(length)]

    def _closed(self, leaf: Any) -> bool:
        """Whether it holds indices of which every one that may be drawn becomes one that may be drawn."""
        if not isinstance(leaf, Tensor) or not _is_index(leaf):
            return False
        allowed = torch.arange(int(leaf.min()), int(leaf.max()) + 1)
        return bool(torch.isin(rolled_values(allowed, self.digit), allowed).all())

    def _passes(self, moved: list[tuple[int, int]], fed: list[tuple[int, int]], generic: bool = False) -> bool:
        """Whether the functions keep their values, in whatever order, when these dimensions are relabelled.

        Unless ``generic``, parameters and inputs are the same for all values of the digit along the other dimensions.
        """
        return all(self._change(moved, fed, generic, ordered=False) <= _SAME for _ in range(_TRIALS))

    def _tells(self, moved: list[tuple[int, int]]) -> bool:
        """Whether relabelled parameters alone are another network, which hidden channels are not."""
        return self._change(moved, [], generic=True, ordered=True) > _SAME

    def _change(self, moved: list[tuple[int, int]], fed: list[tuple[int, int]], generic: bool, ordered: bool) -> float:
        theta = list(self.potentials.unflatten(drawn(self.potentials, self.generator)).values())
        leaves = pytree.tree_leaves(pick(resample(self.potentials.batch, self.generator, 1), 0))
        if not generic:
            theta = [self._evened(x, [d for k, d in moved if k == at]) for at, x in enumerate(theta)]
            leaves = [self._evened(x, [d for k, d in fed if k == at]) for at, x in enumerate(leaves)]
        before = self._values(theta, leaves)
        theta = [rolled(x, self.digit, [d for k, d in moved if k == at]) for at, x in enumerate(theta)]
        leaves = [self._relabelled(x, [d for k, d in fed if k == at]) for at, x in enumerate(leaves)]
        after = self._values(theta, leaves)
        if not ordered:
            before, after = before.sort().values, after.sort().values
        size = float(before.abs().max())
        # Functions that are zero everywhere are the same in any order: they tell nothing, and must not pass.
        change = float((after - before).abs().max()) / size if size > 0 else float("nan")
        return change if change == change else float("inf")

    def _evened(self, leaf: Any, kept: list[int]) -> Any:
        """Made the same for every value of the digit, except along the dimensions to be tried."""
        if not isinstance(leaf, Tensor):
            return leaf
        return mixed(leaf, self.digit, [dim for dim in self._candidates(leaf.shape) if dim not in kept])

    def _relabelled(self, leaf: Any, dims: list[int]) -> Any:
        if not dims:
            return leaf
        along = [dim for dim in dims if dim != _VALUES]
        return rolled(rolled_values(leaf, self.digit) if _VALUES in dims else leaf, self.digit, along)

    def _values(self, theta: list[Tensor], leaves: list[Any]) -> Float64[Tensor, " entries"]:
        with torch.no_grad():
            flat = torch.cat([x.reshape(-1) for x in theta])
            return self.potentials.values(flat, pytree.tree_unflatten(leaves, self.structure))


def _is_index(leaf: Tensor) -> bool:
    return leaf.numel() > 0 and not (leaf.is_floating_point() or leaf.is_complex() or leaf.dtype == torch.bool)
