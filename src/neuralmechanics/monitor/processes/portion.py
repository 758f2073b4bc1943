"""What a process holds of a model, and how its sums become those of the whole model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Protocol, TypeVar

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.optimizers import dense
from neuralmechanics.slices import ProductPlan
from neuralmechanics.symmetry import Family, Symmetries
from neuralmechanics.symmetry.families.displacement import Displacement

Answer = TypeVar("Answer")
# Σ |c| a² over the slices of every quadratic charge, and of every translation, without linear blocks.
Energies = Callable[[Mapping[str, Tensor]], tuple[Float64[Tensor, " charges"], Float64[Tensor, " charges"]]]


class ChargeSums(Protocol):
    """Charges as sums over parameters: those of `Symmetries`, or a process's share of them."""

    @property
    def labels(self) -> Sequence[str]:
        """One text a charge."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that add anything."""

    @property
    def apart(self) -> frozenset[str]:
        """Names of the parameters that enter charges which `product_plan` does not measure."""

    def accumulate_apart_(self, out: Float64[Tensor, " charges"], name: str, a: Tensor, b: Tensor) -> None:
        """Adds parameter ``name``'s share of ``pair(a, b)`` for those charges to ``out``."""

    def product_plan(self, params: Mapping[str, Tensor], device: torch.device) -> ProductPlan:
        """What measures ``pair`` in one read of ``params``, which is what is held here, on one device."""

    @property
    def displacement(self) -> Displacement:
        """What charges of θ + c are beside ⟨θ, Mθ⟩."""


class Portion(Protocol):
    """Every method but `shares`, `share_of` and `spread` has to be called by all processes together, at records alone.

    Tensors are what this process measured with `shares`; answers are those of the whole model, alike in all.
    """

    @property
    def shares(self) -> ChargeSums:
        """The charges whose pair(a, b), of what is held here, is this process's share of the whole's."""

    @property
    def whole(self) -> bool:
        """Whether a record can be put together: no process that holds a share has been let go of."""

    def begin(self) -> None:
        """Find the other processes."""

    def leave(self) -> None:
        """Let go of them; their next call fails at once rather than waits."""

    def total(self, *shares: Tensor) -> tuple[Tensor, ...]:
        """The sums of what all measured."""

    def charges(self, share: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """The charges of the whole model at `values`, from this process's share of them."""

    def largest(self, value: Tensor) -> Tensor:
        """The largest of what all measured, entry by entry."""

    def sizes(
        self, values: Mapping[str, Tensor], *, energies: Energies, of_tangents: bool = False
    ) -> Float64[Tensor, " charges"]:
        """The sizes of the charges (see `Symmetries.charge_scale`), or those of gradients or steps.

        `energies` measures them with a plan that is there already, of what this process holds.
        """

    def agree(self, decide: Callable[[], Answer]) -> Answer:
        """What the writing process decides; the same in all, its ValueError included."""

    def spread(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A share for this process of sums that are known as a whole."""


class Whole:
    """A process that holds all of the model, or a replica of it: nothing to ask others for."""

    whole = True

    def __init__(self, symmetries: Symmetries) -> None:
        self._symmetries = symmetries

    @property
    def shares(self) -> ChargeSums:
        """All of them."""
        return self._symmetries

    def begin(self) -> None:
        """Nobody else is needed."""

    def leave(self) -> None:
        """Nobody else is needed."""

    def total(self, *shares: Tensor) -> tuple[Tensor, ...]:
        """The sums themselves."""
        return shares

    def charges(self, share: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """The charges themselves."""
        return share

    def largest(self, value: Tensor) -> Tensor:
        """The value itself."""
        return value

    def sizes(
        self, values: Mapping[str, Tensor], *, energies: Energies, of_tangents: bool = False
    ) -> Float64[Tensor, " charges"]:
        """The sizes of the charges, in one pass over the parameters."""
        here = {name: dense(value.detach()) for name, value in values.items()}
        target = next(iter(here.values())).device
        if bool(self._symmetries.displaced.any()):
            if len({value.device for value in here.values()}) > 1:
                here = {name: value.cpu() for name, value in here.items()}
            scale = self._symmetries.tangent_scale if of_tangents else self._symmetries.charge_scale
            return scale(here).to(target)
        products, sums = energies(here)
        numbers = torch.nonzero(~self._symmetries.quadratic).reshape(-1).to(target)
        elements = self._symmetries.elements().to(target)[numbers]
        out = products.index_copy(0, numbers, (sums[numbers] * elements).sqrt())
        for family, begin in self._mixing:
            own = {name: here[name].to(target) for name in family.parameters}
            out[begin : begin + family.charges] = family.action.scale(own, own)
        return out

    @cached_property
    def _mixing(self) -> list[tuple[Family, int]]:
        """The families whose charges are no energies of slices, and where these begin."""
        charged = zip(self._symmetries.charged, self._symmetries.offsets, strict=False)
        parts = ((family, begin, family.action.charge_terms(0)) for family, begin in charged)
        return [(family, begin) for family, begin, terms in parts if terms.grams or terms.shares]

    def agree(self, decide: Callable[[], Answer]) -> Answer:
        """What is decided here."""
        return decide()

    def spread(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All of it."""
        return dict(state)


def joined(parts: Sequence[Tensor]) -> Float64[Tensor, " entries"]:
    """Tensors one after another, in double precision on the host."""
    return torch.cat([part.detach().to(device="cpu", dtype=torch.float64).reshape(-1) for part in parts])
