"""What is solved for at once when two networks are matched: the group of one space, or of one family beside them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.rewrite.comparing.elements.steps import Step, space_steps
from neuralmechanics.rewrite.comparing.parts.channels import assigned, match_channels, pair_costs
from neuralmechanics.rewrite.comparing.parts.matrices import Pair, fit_matrix
from neuralmechanics.rewrite.comparing.parts.regions import Region, copies_of, region_of_entry
from neuralmechanics.symmetry import Element, Space
from neuralmechanics.symmetry.families.actions.terms.gain import gain_values, living

__all__ = ["Copy", "SpaceUnit", "Tensors", "Unit", "Usable"]

_GAINED = 1e-18  # of the sum of squares: what a better order of gains must gain
_MOST_SIGNS = 4  # sign directions of a space of blocks that are tried together

Tensors = Mapping[str, Tensor]
Copy = tuple[int, ...]
Usable = Callable[["Unit", int], bool]
"""Whether a unit may read one of its places: nothing that is still unknown acts there but the unit itself."""


class Unit(Protocol):
    """A part of the group that is solved for at once, all other parts held."""

    name: str

    @property
    def regions(self) -> Sequence[Region]:
        """Where it acts: its places."""
        ...

    def known(self, usable: Usable) -> float:
        """How well the usable places determine it: the part of its entries that are there, 0 where they do not."""
        ...

    def solve(self, a: Tensors, b: Tensors, usable: Usable, *, free: bool) -> tuple[Step, ...]:
        """The steps that bring b nearest to a at the usable places."""
        ...


@dataclass(eq=False)
class SpaceUnit:
    """The group of a space, each copy apart.

    ``inner``: spaces with an element of their own for each channel of this one (the bases of a head). While they are
    unknown a channel is compared with another at what the inner groups leave: the best that they can do.
    """

    space: Space
    exact: bool = True
    inner: list[tuple[SpaceUnit, int]] = field(default_factory=list)
    _index: dict[tuple[int, Copy], tuple[Tensor, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = self.space.name
        self.regions = tuple(region_of_entry(self.space, entry) for entry in self.space.entries)
        self.copies = tuple(copies_of(self.space))
        directions = enumerate(self.space.directions)
        self.directions = [k for k, d in directions if (d.exact or not self.exact) and not self.space.mixes]

    def rows(self, number: int, copy: Copy, tensors: Tensors) -> Float64[Tensor, "width rest"]:
        """The channels of one copy at one of the space's places, as rows."""
        entry = self.space.entries[number]
        found = tensors[entry.parameter][self._indices(number, copy)].movedim(entry.axis, 0)
        return found.reshape(self.space.width, -1)

    def add_(self, number: int, copy: Copy, tensor: Tensor, amounts: Float64[Tensor, " width"]) -> None:
        """Adds one number to all entries of each channel of one copy, in place."""
        entry, index = self.space.entries[number], self._indices(number, copy)
        rows = tensor[index].movedim(entry.axis, 0)
        raised = rows.reshape(self.space.width, -1) + amounts[:, None]
        tensor[index] = raised.reshape(rows.shape).movedim(0, entry.axis)

    def _indices(self, number: int, copy: Copy) -> tuple[Tensor, ...]:
        if (number, copy) not in self._index:
            entry = self.space.entries[number]
            chosen = [torch.arange(n) for n in entry.shape]
            for place in (entry.place, *entry.beside):
                chosen[place.axis] = torch.as_tensor(place.positions(copy).reshape(-1))
            shapes = [[-1 if k == d else 1 for k in range(len(chosen))] for d in range(len(chosen))]
            self._index[number, copy] = tuple(x.reshape(s) for x, s in zip(chosen, shapes, strict=True))
        return self._index[number, copy]

    def known(self, usable: Usable) -> float:
        """The usable part of what it moves, the inner spaces' included; of a matrix as many columns as it has rows."""
        own, total = self._amounts(usable)
        for unit, _ in self.inner:
            more, all_of = unit._amounts(usable)
            own, total = own + more, total + all_of
        return own / max(total, 1.0)

    def _amounts(self, usable: Usable) -> tuple[float, float]:
        copy, width = self.copies[0], self.space.width
        sizes = [self._size(k, copy) for k in range(len(self.space.entries))]
        moved = [k for k, e in enumerate(self.space.entries) if e.mixes or not self.space.mixes]
        there = [k for k in moved if usable(self, k)]
        found = float(sum(sizes[k] for k in there))
        if self.space.mixes and self.space.group == "general linear":
            sides = (sum(sizes[k] for k in there if self.space.entries[k].inverse_transposed == s) for s in (0, 1))
            found = found if any(side >= width for side in sides) else 1e-3 * found
        elif self.space.mixes and found < width:
            found *= 1e-3
        return found * width * len(self.copies), float(sum(sizes[k] for k in moved)) * width * len(self.copies)

    def _size(self, number: int, copy: Copy) -> int:
        entry = self.space.entries[number]
        count = entry.place.positions(copy).size
        for axis, n in enumerate(entry.shape):
            count *= n if axis != entry.axis else 1
        for place in entry.beside:
            count = count * place.positions(copy).size // entry.shape[place.axis]
        return count // self.space.width

    def solve(self, a: Tensors, b: Tensors, usable: Usable, *, free: bool) -> tuple[Step, ...]:
        """A permutation with factors, or a matrix, for each copy."""
        places = self._places(usable)
        if not places and not any(unit._places(usable) for unit, _ in self.inner):
            return ()
        if self.space.mixes:
            order = self._order_of_gains(a, b, usable)
            for step in order:
                b = step.transform(b)
            matrices = [self._matrix(places, copy, copy, a, b, free)[0] for copy in self.copies]
            return (*order, *space_steps(self.space, Element(matrix=self._stacked(matrices))))
        permutations, factors = [], []
        for copy in self.copies:
            permutation, chosen = self._assignment(places, copy, a, b, usable, free)
            permutations.append(permutation)
            factors.append(chosen)
        shape = (len(self.space.directions), *self.space.copies_shape, self.space.width)
        moved = Element(
            self._stacked(permutations), torch.stack(factors, 1).reshape(shape) if self.directions else None
        )
        return space_steps(self.space, moved)

    def _order_of_gains(self, a: Tensors, b: Tensors, usable: Usable) -> tuple[Step, ...]:
        """The channels put in the order of what matrices leave where it is: gains, or their signs once scales are one.

        None where that is in order already, since a matrix permutes all else.
        """
        gains = [k for k, e in enumerate(self.space.entries) if not e.mixes and usable(self, k)]
        if not gains:
            return ()
        orders = []
        for copy in self.copies:
            wanted, given = (torch.cat([self.rows(k, copy, x) for k in gains], 1) for x in (a, b))
            costs = torch.cdist(wanted, given, compute_mode="donot_use_mm_for_euclid_dist").square()
            order = assigned(costs)
            still = torch.arange(self.space.width)
            gained = costs.diagonal().sum() - costs[still, order].sum()
            orders.append(order if float(gained) > _GAINED * float(wanted.square().sum()) else still)
        if all(bool((order == torch.arange(self.space.width)).all()) for order in orders):
            return ()
        return space_steps(self.space, Element(self._stacked(orders)))

    def _stacked(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(parts)).reshape(*self.space.copies_shape, *parts[0].shape)

    def positive(self, tensors: Tensors, gains: Collection[str]) -> tuple[Step, ...]:
        """Signs of the directions that flip gains with what reads them, after which these gains are positive."""
        if not self.space.mixes:
            return ()
        shape = (len(self.space.directions), *self.space.copies_shape, self.space.width)
        factors = torch.ones(shape, dtype=torch.float64)
        for d, direction in enumerate(self.space.directions):
            places = (k for k, e in enumerate(self.space.entries) if direction.exponents[k] and e.parameter in gains)
            place = next(places, None) if direction.kind == "sign" else None
            if place is not None:
                sums = [self.rows(place, copy, tensors).sum(1) for copy in self.copies]
                factors[d] = torch.where(torch.stack(sums).reshape(shape[1:]) < 0, -1.0, 1.0)
        return space_steps(self.space, Element(factors=factors)) if bool((factors < 0).any()) else ()

    def _places(self, usable: Usable) -> list[int]:
        entries = self.space.entries
        return [k for k, e in enumerate(entries) if (e.mixes or not self.space.mixes) and usable(self, k)]

    def _pairs(self, places: Sequence[int], wanted: Copy, given: Copy, a: Tensors, b: Tensors) -> list[Pair]:
        return [(self.rows(k, wanted, a), self.rows(k, given, b)) for k in places]

    def _matrix(
        self, places: Sequence[int], wanted: Copy, given: Copy, a: Tensors, b: Tensors, free: bool
    ) -> tuple[Tensor, float]:
        """The matrix that brings copy ``given`` of b nearest to copy ``wanted`` of a, and what remains."""
        forward: list[Pair] = []
        dual: list[Pair] = []
        # Also what is not compared must be able to follow.
        through = tuple(pair for entry in self.space.entries for pair in entry.dressing)
        alive = _of_copy(living(through, b, b[self.space.entries[0].parameter]), given) if through else None
        for k, (left, right) in zip(places, self._pairs(places, wanted, given, a, b), strict=True):
            entry = self.space.entries[k]
            gain = gain_values(entry.dressing, b, right, dead=1.0)
            if gain is not None:
                seen = _of_copy(living(entry.dressing, b, right), given)
                gain = _of_copy(gain, given)  # what is read through a gain of zero may hold anything
                left, right = (rows * (seen / gain)[:, None] for rows in (left, right))
            (dual if entry.inverse_transposed else forward).append((left, right))
        return fit_matrix(self.space.group, forward, dual, free=free, alive=alive)

    def _assignment(
        self, places: Sequence[int], copy: Copy, a: Tensors, b: Tensors, usable: Usable, free: bool
    ) -> tuple[Tensor, Tensor]:
        chosen = [self.space.directions[d] for d in self.directions]
        factors = torch.ones(len(self.space.directions), self.space.width, dtype=torch.float64)
        extra, flips = self._inner_costs(copy, a, b, usable, free)
        if not places:
            permutation = assigned(extra)
            for d, signs in flips.items():
                factors[d] = signs[torch.arange(self.space.width), permutation]
            return permutation, factors
        exponents = [tuple(d.exponents[k] for d in chosen) for k in places]
        match = match_channels(self._pairs(places, copy, copy, a, b), exponents, chosen, extra, free=free)
        factors[self.directions] = match.factors
        return match.permutation, factors

    def _inner_costs(
        self, copy: Copy, a: Tensors, b: Tensors, usable: Usable, free: bool
    ) -> tuple[Float64[Tensor, "width width"], dict[int, Float64[Tensor, "width width"]]]:
        """What remains between channel i of a and channel j of b when the inner groups have done their best.

        Signs that multiply whole channels of this space are tried as well: the second answer has the best ones.
        """
        n = self.space.width
        found = [(unit, role, unit._places(usable)) for unit, role in self.inner]
        inner = [(unit, role, places) for unit, role, places in found if places and not unit._fits_all(places, a, b)]
        signs = [d for d in self.directions if self.space.directions[d].kind == "sign"][:_MOST_SIGNS] if inner else []
        best = torch.full((n, n), torch.inf, dtype=torch.float64)
        flips = {d: torch.ones(n, n, dtype=torch.float64) for d in signs}
        for choice in itertools.product((1.0, -1.0), repeat=len(signs)):
            costs = torch.zeros(n, n, dtype=torch.float64)
            flipped = self._flipped(b, dict(zip(signs, choice, strict=True)))
            for unit, role, places in inner:
                unit._add_costs(costs, role, places, a, flipped, free)
            better = costs < best * (1 - 1e-9)
            best = torch.where(better, costs, best)
            for d, sign in zip(signs, choice, strict=True):
                flips[d] = torch.where(better, sign, flips[d])
        return best, flips

    def _fits_all(self, places: Sequence[int], a: Tensors, b: Tensors) -> bool:
        """Whether any channel becomes any other exactly: by a matrix, of one vector each, or where all are zero."""
        if self.space.group != "general linear" or len(places) != 1:
            return False
        rows = [self.rows(places[0], copy, tensors) for copy in self.copies for tensors in (a, b)]
        there = {bool(part.any()) for part in rows}
        return there == {False} or (there == {True} and all(part.shape[1] == 1 for part in rows))

    def _flipped(self, b: Tensors, signs: Mapping[int, float]) -> Tensors:
        if all(sign == 1 for sign in signs.values()):
            return b
        shape = (len(self.space.directions), *self.space.copies_shape, self.space.width)
        factors = torch.ones(shape, dtype=torch.float64)
        for d, sign in signs.items():
            factors[d] = sign
        return self.space.transform(b, Element(factors=factors))

    def _add_costs(self, costs: Tensor, role: int, places: Sequence[int], a: Tensors, b: Tensors, free: bool) -> None:
        """Adds what remains between the copies i of a and j of b, counted by the digit ``role``."""
        size = sum(float(rows.square().sum()) for c in self.copies for rows in self._all(places, c, a))
        unit_of = size / len(self.copies) if free and size else 1.0
        for i, j in itertools.product(range(len(costs)), repeat=2):
            for wanted in (c for c in self.copies if c[role] == i):
                given = (*wanted[:role], j, *wanted[role + 1 :])
                costs[i, j] += self._remaining(places, wanted, given, a, b, free) / unit_of

    def _all(self, places: Sequence[int], copy: Copy, tensors: Tensors) -> list[Tensor]:
        return [self.rows(k, copy, tensors) for k in places]

    def _remaining(self, places: Sequence[int], wanted: Copy, given: Copy, a: Tensors, b: Tensors, free: bool) -> float:
        if self.space.mixes:
            return self._matrix(places, wanted, given, a, b, free)[1]
        chosen = [self.space.directions[d] for d in self.directions]
        exponents = [tuple(d.exponents[k] for d in chosen) for k in places]
        costs, _ = pair_costs(self._pairs(places, wanted, given, a, b), exponents, chosen, free=free)
        permutation = assigned(costs)
        return float(costs[torch.arange(len(permutation)), permutation].sum())


def _of_copy(value: Tensor, copy: Copy) -> Tensor:
    """What belongs to one copy, of a vector for all or of one for each."""
    return value if value.ndim == 1 else value[copy]
