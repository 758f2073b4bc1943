"""Parts of a network that change places whole, as experts that are modules, with the rows of their router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.rewrite.comparing.elements.steps import Step, space_steps
from neuralmechanics.rewrite.comparing.parts.channels import assigned
from neuralmechanics.rewrite.comparing.parts.regions import Region
from neuralmechanics.rewrite.comparing.parts.units import SpaceUnit, Tensors, Unit, Usable
from neuralmechanics.symmetry import Element, Space

__all__ = ["BlockUnit"]

_CLEAR = 1e-12  # of the size of what is compared: a cost that is rounding
_APART = 1e-6  # of the same: costs of other choices that are none


@dataclass(eq=False)
class BlockUnit:
    """The permutations of blocks of parameters.

    ``inner``: the parts of the group that act on one block alone, such as permutations of an expert's hidden channels:
    a block is compared with another at what these leave, the best that they can do.
    """

    space: Space
    inner: tuple[tuple[Unit, ...], ...] = ()
    _rows: SpaceUnit = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.space.name
        self._rows = SpaceUnit(self.space)
        blocks = tuple(Region(name) for block in self.space.blocks for name in block)
        self.regions = (*self._rows.regions, *blocks)

    @classmethod
    def among(cls, space: Space, units: Sequence[Unit]) -> BlockUnit:
        """With those of the units that move one of the blocks, and beside it at most what counts the blocks."""
        counted = {entry.parameter for entry in space.entries}
        inner = []
        for block in space.blocks:
            own = set(block)
            moved = ((unit, {region.tensor for region in unit.regions}) for unit in units)
            inner.append(tuple(unit for unit, names in moved if names & own and names <= own | counted))
        return cls(space, tuple(inner))

    def known(self, usable: Usable) -> float:
        """The part of its places that are usable, by themselves or by what acts within a block."""
        places = [(unit, k) for unit in (self, *self.within) for k in range(len(unit.regions))]
        return sum(usable(unit, k) for unit, k in places) / max(len(places), 1)

    @property
    def within(self) -> tuple[Unit, ...]:
        """The parts that act on one block alone, of all blocks."""
        return tuple(unit for units in self.inner for unit in units)

    def solve(self, a: Tensors, b: Tensors, usable: Usable, *, free: bool) -> tuple[Step, ...]:
        """The permutation of least distance: by the router's rows where they tell all blocks apart, else by all."""
        costs, size = self._router_costs(a, b, usable)
        if not self._decides(costs, size):
            costs = costs + self._block_costs(a, b, usable, free)
        if not bool(costs.any()):
            return ()
        return space_steps(self.space, Element(assigned(costs)))

    def _decides(self, costs: Float64[Tensor, "blocks blocks"], size: float) -> bool:
        """Whether one permutation costs nothing and every other choice of a block something."""
        order = assigned(costs)
        chosen = torch.zeros_like(costs, dtype=torch.bool)
        chosen[torch.arange(len(order)), order] = True
        return size > 0 and bool((costs[chosen] <= _CLEAR * size).all() and (costs[~chosen] > _APART * size).all())

    def _router_costs(self, a: Tensors, b: Tensors, usable: Usable) -> tuple[Float64[Tensor, "blocks blocks"], float]:
        n = self.space.width
        costs, size = torch.zeros(n, n, dtype=torch.float64), 0.0
        for k in (k for k in range(len(self.space.entries)) if usable(self, k)):
            wanted, given = (self._rows.rows(k, (), x) for x in (a, b))
            unit = float(wanted.square().sum()) / n or 1.0
            costs += torch.cdist(wanted, given, compute_mode="donot_use_mm_for_euclid_dist").square() / unit
            size += 1.0
        return costs, size

    def _block_costs(self, a: Tensors, b: Tensors, usable: Usable, free: bool) -> Float64[Tensor, "blocks blocks"]:
        """What remains between block i of a and block j of b."""
        blocks = self.space.blocks
        costs = torch.zeros(len(blocks), len(blocks), dtype=torch.float64)
        start = len(self.space.entries)
        for i, own in enumerate(blocks):
            open_ones = [name for p, name in enumerate(own) if usable(self, start + i * len(own) + p)]
            for j in range(len(blocks)):
                order = torch.arange(len(blocks))
                order[i], order[j] = j, i
                moved = self.space.transform(b, order)
                costs[i, j] += _distance(open_ones, a, moved)
                for unit in self.inner[i]:
                    costs[i, j] += _remaining(unit, a, moved, usable, free)
        return costs


def _remaining(unit: Unit, a: Tensors, b: Tensors, usable: Usable, free: bool) -> float:
    """What a part of the group leaves of the entries that it is solved from."""
    places = [k for k in range(len(unit.regions)) if usable(unit, k)]
    if not places:
        return 0.0
    after: Mapping[str, Tensor] = b
    for step in unit.solve(a, b, usable, free=free):
        after = step.transform(after)
    if not isinstance(unit, SpaceUnit):
        return _distance(list(dict.fromkeys(unit.regions[k].tensor for k in places)), a, after)
    pairs = [(unit.rows(k, copy, a), unit.rows(k, copy, after)) for k in places for copy in unit.copies]
    return sum(float((x - y).square().sum()) / (float(x.square().sum()) or 1.0) for x, y in pairs)


def _distance(names: Sequence[str], a: Tensors, b: Tensors) -> float:
    """Σ ‖a - b‖² / ‖a‖², tensor by tensor."""
    return sum(float((a[n] - b[n]).square().sum()) / (float(a[n].square().sum()) or 1.0) for n in names)
