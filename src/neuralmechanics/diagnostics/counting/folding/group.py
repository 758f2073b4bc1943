"""The commutative group of relabelings, the orbits of parameters under it, and vectors sorted by its characters.

A group G of order |G| permutes the D parameters. Vectors that g multiplies by χ(g) form the isotypic part of the
character χ; R^D is the sum of these parts, one a character, each of at most as many dimensions as there are orbits. The
part of v on the orbit of a parameter r is Σ_g χ(g)̅ v[g r], a discrete Fourier transform over G.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from neuralmechanics.diagnostics.counting.folding.equivariance import Relabeling

__all__ = ["RelabelingGroup", "generated"]


@dataclass(frozen=True, eq=False)
class RelabelingGroup:
    """G by its generators, with the table of what each element makes of one parameter of every orbit.

    ``orders``: of the generators. ``table``: parameter r of each orbit (a column) moved by each element (a row, digits
    of its number in the base of the orders). ``orbit``: the column of each parameter.
    """

    orders: tuple[int, ...]
    table: Int64[Tensor, "elements orbits"]
    orbit: Int64[Tensor, " D"]

    @property
    def order(self) -> int:
        """Number of elements."""
        return math.prod(self.orders)

    @property
    def orbits(self) -> int:
        """Number of orbits of parameters, the greatest dimension of an isotypic part."""
        return int(self.table.shape[1])

    def fixed(self, theta: Float64[Tensor, " D"]) -> Float64[Tensor, " D"]:
        """A place that no element moves: every parameter gets the value that one of its orbit has in ``theta``."""
        return theta[self.table[0]][self.orbit]

    def parts(self, rows: Float64[Tensor, "rows D"]) -> Tensor:
        """The rows in all isotypic parts, [rows, elements, orbits]: real where every generator has order two."""
        return self._transform @ rows.to(self._transform.dtype)[:, self.table]

    @cached_property
    def _transform(self) -> Tensor:
        """χ(g)̅ of all characters and elements: the Fourier matrices of the cyclic factors multiplied out."""
        whole = torch.ones(1, 1, dtype=torch.float64 if self.real else torch.complex128)
        for order in self.orders:
            powers = torch.outer(torch.arange(order), torch.arange(order)) % order
            angles = powers.double() * (-2 * math.pi / order)
            factor = 1.0 - 2.0 * powers.double() if self.real else torch.polar(torch.ones_like(angles), angles)
            whole = torch.kron(whole, factor)
        return whole

    @property
    def real(self) -> bool:
        """Whether all characters are real."""
        return all(order == 2 for order in self.orders)

    def characters(self) -> Iterator[tuple[int, int]]:
        """Number and multiplicity of each character, of two conjugate ones the first: their parts are conjugate.

        A complex character has multiplicity two and a real one in a group that has complex ones, too, one.
        """
        for number, digits in enumerate(product(*(range(order) for order in self.orders))):
            back = tuple(-digit % order for digit, order in zip(digits, self.orders, strict=True))
            if digits <= back:
                yield number, 1 if digits == back else 2

    def dimensions(self) -> Bool[Tensor, "elements orbits"]:
        """Which orbits have a share in which isotypic part: those whose stabiliser the character maps to 1."""
        # A character sums to zero over a subgroup, or to its order where it is 1 on all of it.
        stabiliser = (self.table == self.table[0]).to(self._transform.dtype)
        return (self._transform @ stabiliser).abs() > 0.5


def generated(relabelings: Sequence[Relabeling], dimension: int) -> RelabelingGroup:
    """The group that relabelings generate: one after another, as long as it commutes with those before and is new.

    Those that move most parameters come first.
    """
    elements = torch.arange(dimension)[None]
    orders: list[int] = []
    taken: list[Tensor] = []
    for one in relabelings:
        step = one.indices
        if not all(torch.equal(step[other], other[step]) for other in taken):
            continue
        powers = [elements]
        for _ in range(one.digit.order - 1):
            powers.append(powers[-1][:, step])
        merged = torch.stack(powers, dim=1).flatten(0, 1)
        # The identity a second time: a power of this one is a product of those before, and would count twice.
        if (merged[1:] == merged[0]).all(1).any():
            continue
        elements = merged
        orders.append(one.digit.order)
        taken.append(step)
    # All members of an orbit have the same least number, which stands for it.
    smallest = elements.min(0).values
    representatives, orbit = torch.unique(smallest, return_inverse=True)
    return RelabelingGroup(tuple(orders), elements[:, representatives], orbit)
