"""The logarithm of an optimiser's map: its modified field from forward differences of its own iterates."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass

from torch import Tensor

from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss
from neuralmechanics.flows.equation.system import Field, System, steady
from neuralmechanics.optimizers.hyperparameters.bounds import require_number, require_positive

__all__ = ["MapFlow", "map_logarithm", "require_order"]


def require_order(order: int) -> None:
    """Refuse an order that is not a whole number from 1 to 12, where 2^order roundings would pass single precision."""
    require_number("order", order)
    if order != int(order) or not 1 <= order <= 12:
        raise ValueError(f"order is {order}, expected a whole number from 1 to 12")


def map_logarithm(step: Callable[[Tensor], Tensor], time_step: float, order: int) -> Field:
    """F = (1/h) Σ_{j=1..n} (-1)^{j-1}/j (Φ-1)^j, applied to the identity: h F = log Φ truncated at n.

    The differences (Φ-1)^j θ are the forward differences of θ, Φθ, Φ²θ, …: n steps of the optimiser and no second
    derivative. If Φ = 1 + O(h), its n-th difference is O(h^n): F has error O(h^n), and rounding grows like 2^n/h.
    """
    require_order(order)

    def field(x: Tensor) -> Tensor:
        iterates = [x]
        for _ in range(order):
            iterates.append(step(iterates[-1]))
        # log Φ = log(1 + (Φ - 1)), expanded in powers of Φ - 1.
        total = x.new_zeros(x.shape)
        for j in range(1, order + 1):
            # After j rounds of differences the first entry is (Φ-1)^j θ.
            iterates = [after - before for before, after in itertools.pairwise(iterates)]
            total = total + (-1) ** (j - 1) / j * iterates[0]
        return total / time_step

    return field


@dataclass(frozen=True)
class MapFlow:
    """θ' = (1/h) log Φ(θ) for any near-identity optimiser step Φ over named parameters, truncated at ``order``.

    Φ must be a function of the parameters alone and Φ(θ) - θ must vanish with the time step: not momentum, whose
    buffer forgets at a rate 1-β that no learning rate makes small.

    >>> import torch
    >>> from neuralmechanics.flows import velocity
    >>> halve = MapFlow(lambda p: {"x": 0.9 * p["x"]}, loss=lambda p: p["x"].sum(), time_step=0.1, order=12)
    >>> velocity(halve, {"x": torch.ones(1)})["x"].item()  # log(0.9)/0.1
    -1.053605156...
    """

    step: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]
    _: KW_ONLY
    loss: Loss
    time_step: float
    order: int
    label: str = "map logarithm"

    def __post_init__(self) -> None:
        require_positive("time_step", self.time_step)
        require_order(self.order)

    def system(self, theta0: Mapping[str, Tensor]) -> System:
        """The equation started from θ0."""
        layout = Layout.of(theta0)

        def step(x: Tensor) -> Tensor:
            return layout.flatten(self.step(layout.unflatten(x)))

        field = map_logarithm(step, self.time_step, self.order)
        return System(layout, layout.flatten(theta0), steady(field), self.time_step)
