"""What each parameter carries at first, and what ends or joins the legs of a tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from neuralmechanics.symmetry.domains.representation.shears import Shears
from neuralmechanics.symmetry.domains.representation.spaces import Leg, Spaces
from neuralmechanics.symmetry.domains.representation.tensor_type import Carried, Hollow, plain
from neuralmechanics.symmetry.families.actions.terms.gain import Gain
from neuralmechanics.symmetry.program.attributes.views import Take

__all__ = ["Legwork"]

Shape = tuple[int, ...]
Legs = tuple[Leg | None, ...]


class Legwork:
    """The parameters, as they transform, and the demands that primitives make of what is carried.

    ``answering``: where a bias is added to a product that nothing else reads. ``taking``: by the place of a sum and its
    operand, a bias that takes back what the operand gains. ``blind``: a centring norm does not
    rotate but is invariant to what is added along the all-ones vector, and the matrices 1 + v·1ᵀ leave what it makes.
    """

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        *,
        complex: frozenset[str],
        single: frozenset[str],
        answering: frozenset[int] = frozenset(),
        blind: bool = False,
        taking: Mapping[tuple[int, int], str] | None = None,
    ) -> None:
        self.shapes = shapes
        self.spaces = Spaces()
        self.parameters: dict[str, Carried] = {}
        self.shears = Shears(single)
        self.cause = self.position = -1
        self._complex, self._blind = complex, blind
        self._answering = answering  # where a bias is added to a product that nothing else reads
        self._taking = taking or {}
        self.taken: list[
            tuple[Leg, str, str]
        ] = []  # matrices 1 + v·1ᵀ that move a norm's bias, which a bias takes back

    # --- leaves -------------------------------------------------------------------------------------------------

    def constant(self, shape: Sequence[int]) -> Carried:
        return plain(shape)

    def parameter(self, name: str) -> Carried:
        if name not in self.parameters:
            shape = tuple(self.shapes[name])
            legs = tuple(self.spaces.new(n) if n > 1 else None for n in shape)
            gain = (Gain(name), 1.0) if sum(n > 1 for n in shape) == 1 else None
            self.parameters[name] = Carried(shape, legs, (1,), gain, frozenset(), (name, tuple(range(len(shape)))))
            # Of complex parameters nothing is claimed: the matrices are real here, and B⁻ᵀ is no B⁻ᴴ.
            if name in self._complex:
                self.fix(self.parameters[name])
        return self.parameters[name]

    def unread(self, name: str, view: Take) -> None:
        """Matrices act on whole dimensions, read or not."""

    def paired(self, x: Carried, first: Sequence[int], second: Sequence[int]) -> None:
        """Pairs of channels that something turns; where every channel is in one."""
        leg, pairs = x.legs[-1], tuple(zip(first, second, strict=True))
        if leg is None:
            return
        if 2 * len(pairs) == x.shape[-1]:
            self.spaces.turn_pairs(leg, pairs)
        else:
            self.spaces.fix(leg)

    # --- demands ------------------------------------------------------------------------------------------------

    def fix(self, *xs: Carried) -> None:
        for x in xs:
            for leg in x.legs:
                self.spaces.fix(leg)

    def _linear(self, x: Carried) -> Carried:
        """x where only linear operations may follow: an unsummed square ends its leg."""
        if not x.squares:
            return x
        self.fix(x)
        return plain(x.shape, None, x)

    def _still(self, x: Carried) -> Carried:
        """x without the leg along which its entries add up to zero: matrices 1 + v·1ᵀ leave it as it is."""
        if not self._blind or x.hollow is None or x.hollow.dressing or x.hollow.shifts:
            return x
        return replace(x, legs=tuple(None if d == x.hollow.dim else leg for d, leg in enumerate(x.legs)))

    def _apart(self, x: Carried) -> Carried:
        """x with matrices 1 + v·1ᵀ of its own along the dimension along which its entries, less gains, add up to zero.

        They leave x as it is, each v of them: so that of one reader need not be that of another.
        """
        if not self._blind or x.hollow is None or x.hollow.shifts:
            return x
        # A space of its own for each reader: what one cannot bear must not end the freedom of another.
        leg = self.spaces.hollow(x.shape[x.hollow.dim])
        for gain, power in x.hollow.dressing:
            leg = leg.times(gain, power)
        return replace(x, legs=tuple(leg if d == x.hollow.dim else own for d, own in enumerate(x.legs)))

    def _taken_back(self, x: Carried, place: int) -> Carried:
        """x without its leg where a matrix 1 + v·1ᵀ moves a norm's bias alone, which a bias in the sum takes back.

        With Σ_j x_j/D_j constant, D (1 + v·1ᵀ) D⁻¹ x is x plus a constant: the change of the norm's bias.
        """
        bias, hollow = self._taking.get((self.position, place)), x.hollow
        if not self._blind or not bias or hollow is None or not hollow.dressing or len(hollow.shifts) != 1:
            return x
        (name, since), leg = hollow.shifts[0], x.legs[hollow.dim]
        if since or leg is None or hollow.dim != len(x.shape) - 1 or name == bias:
            return x
        self.taken.append((leg, name, bias))
        return replace(x, legs=tuple(None if d == hollow.dim else own for d, own in enumerate(x.legs)))

    def _ended(self, shape: Sequence[int], *xs: Carried) -> Carried:
        self.fix(*map(self._still, xs))
        return plain(shape, None, *xs)

    def _left_by_centring(self, x: Carried, dim: int) -> Carried:
        """x, the entries of which add up to zero along a dimension."""
        legs = [self.spaces.hollow(n) if self._blind and d == dim else x.legs[d] for d, n in enumerate(x.shape)]
        return replace(x, legs=tuple(legs), hollow=Hollow(dim))

    def _keep_ones(self, leg: Leg) -> None:
        if self._blind:
            self.spaces.fix(leg)
        else:
            self.spaces.keep_ones(leg)

    def _all_but(self, x: Carried, dims: Iterable[int]) -> Legs:
        """The legs, with those of ``dims`` ended."""
        chosen = {d % len(x.shape) for d in dims}
        for d in chosen:
            self.spaces.fix(x.legs[d])
        return tuple(None if d in chosen else leg for d, leg in enumerate(x.legs))
