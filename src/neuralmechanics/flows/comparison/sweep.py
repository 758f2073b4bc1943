"""Orders of accuracy, measured: the distance of each flow from the optimiser as the learning rate shrinks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.comparison.compare import compare_flows
from neuralmechanics.flows.equation.charges import Charges
from neuralmechanics.flows.equation.objective import Loss
from neuralmechanics.flows.equation.system import Flow
from neuralmechanics.flows.integration.descend import natural_step
from neuralmechanics.flows.integration.integrate import ADAPTIVE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OrderSweep", "slope", "sweep_learning_rates"]


@dataclass(frozen=True)
class OrderSweep:
    """Largest distances over one and the same time, by flow and learning rate; NaN where a flow stopped early."""

    learning_rates: Float64[Tensor, " rates"]
    errors: dict[str, Float64[Tensor, " rates"]]
    reasons: dict[str, tuple[str, ...]]

    @property
    def orders(self) -> dict[str, float]:
        """Slope of log error against log η; NaN where a flow stopped early."""
        return {name: slope(self.learning_rates, errors) for name, errors in self.errors.items()}

    def to_frame(self) -> pd.DataFrame:
        """Errors with one row a learning rate and one column a flow, and a last row "order"."""
        import pandas as pd

        table = pd.DataFrame({name: errors.numpy() for name, errors in self.errors.items()})
        table.index = pd.Index([f"{rate:g}" for rate in self.learning_rates.tolist()], name="learning_rate")
        table.loc["order"] = [self.orders[name] for name in self.errors]
        return table


def slope(x: Tensor, y: Tensor) -> float:
    """Least-squares slope of log y against log x: the measured order.

    >>> slope(torch.tensor([0.1, 0.2, 0.4]), torch.tensor([0.01, 0.04, 0.16]))
    2.0
    """
    if not bool((torch.isfinite(y) & (y > 0)).all()) or len(x) < 2:
        return math.nan
    u, v = x.double().log(), y.double().log()
    u = u - u.mean()
    return round(float(u.dot(v) / u.dot(u)), 6)


def sweep_learning_rates(
    loss: Loss,
    theta0: Mapping[str, Tensor],
    *,
    optimizer: Callable[..., torch.optim.Optimizer],
    learning_rates: Sequence[float],
    horizon: float,
    flows: Callable[[float], Mapping[str, Flow]] | None = None,
    symmetries: Charges | None = None,
    method: str = "auto",
    step: float | None = None,
    records: int = 10,
    rtol: float | None = None,
    atol: float | None = None,
) -> OrderSweep:
    """Compares at each learning rate over the same time ``horizon``; ``optimizer(tensors, lr=η)`` makes one.

    ``flows(η)`` names the models, default those that match. The horizon must be a whole number of steps at every η,
    because a flow meets the optimiser only at whole steps. The error at a rate is the largest distance at about
    ``records`` equally spaced times. ``method`` and what follows go to ``integrate``; adaptive methods keep 1e-10 and
    1e-12 where no tolerance is given.
    """
    if method in ADAPTIVE:
        rtol, atol = 1e-10 if rtol is None else rtol, 1e-12 if atol is None else atol
    errors: dict[str, list[float]] = {}
    reasons: dict[str, list[str]] = {}
    for rate in learning_rates:
        make = partial(optimizer, lr=rate)
        # On a number that is thrown away: what counts is how much time a step takes.
        h = natural_step(make([torch.zeros(1, requires_grad=True)]).param_groups[0])
        steps = round(horizon / h)
        if steps < 1 or abs(steps * h - horizon) > 1e-6 * horizon:
            raise ValueError(
                f"horizon {horizon} is {horizon / h:.4f} steps of learning rate {rate}: choose rates that divide it, "
                f"such as {horizon / max(1, steps):.6g} per unit of step"
            )
        compared = compare_flows(
            loss,
            theta0,
            optimizer=make,
            steps=steps,
            flows=None if flows is None else flows(rate),
            symmetries=symmetries,
            every=max(1, steps // records),
            method=method,
            step=step,
            rtol=rtol,
            atol=atol,
            # Nobody reads it here, and it costs half as much again.
            estimate_error=False,
        )
        for name, distance in compared.distance.items():
            errors.setdefault(name, []).append(float(distance.max()))
            reasons.setdefault(name, []).append(str(compared.flows[name].reason))
    return OrderSweep(
        torch.tensor(list(learning_rates), dtype=torch.float64),
        {name: torch.tensor(values, dtype=torch.float64) for name, values in errors.items()},
        {name: tuple(values) for name, values in reasons.items()},
    )
