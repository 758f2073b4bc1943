"""The optimiser against its continuous models: who stays close, in parameters, loss and charges, and for how long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.comparison.matching import matching_flows
from neuralmechanics.flows.equation.charges import Charges
from neuralmechanics.flows.equation.objective import Loss
from neuralmechanics.flows.equation.system import Flow
from neuralmechanics.flows.integration.descend import OptimizerFactory, descend
from neuralmechanics.flows.integration.integrate import integrate
from neuralmechanics.flows.integration.path import Path
from neuralmechanics.progress import Meter

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "compare_flows"]


@dataclass(frozen=True)
class Comparison:
    """The optimiser's run and each flow's, at equal times; a flow that stopped early is NaN from there on."""

    optimizer: Path
    flows: dict[str, Path]

    @property
    def times(self) -> Float64[Tensor, " times"]:
        """t = Σ h at the recorded steps."""
        return self.optimizer.times

    @cached_property
    def distance(self) -> dict[str, Float64[Tensor, " times"]]:
        """|θ_flow - θ_optimiser| for each flow."""
        return {name: self._against(_flat(path), _flat(self.optimizer)) for name, path in self.flows.items()}

    @cached_property
    def loss_difference(self) -> dict[str, Float64[Tensor, " times"]]:
        """|L_flow - L_optimiser| for each flow."""
        mine = self.optimizer.losses[:, None]
        return {name: self._against(path.losses[:, None], mine) for name, path in self.flows.items()}

    @cached_property
    def charge_error(self) -> dict[str, Float64[Tensor, " times"]]:
        """Largest |Q_flow - Q_optimiser| over the charges, relative to the largest |Q(0)|; empty without symmetries."""
        mine = self.optimizer.charges
        if mine is None or mine.shape[1] == 0:
            return {}
        size = mine[0].abs().max()
        scale = float(size) if size > 0 else 1.0
        found = {}
        for name, path in self.flows.items():
            assert path.charges is not None
            # Either may have stopped early: they are compared as far as both came.
            count = min(len(path.times), len(mine))
            error = (path.charges[:count] - mine[:count]).abs().amax(1) / scale
            found[name] = _padded(error, len(self.times))
        return found

    def _against(self, theirs: Tensor, mine: Tensor) -> Tensor:
        count = min(len(theirs), len(mine))
        return _padded(torch.linalg.vector_norm(theirs[:count] - mine[:count], dim=1), len(self.times))

    def to_frame(self) -> pd.DataFrame:
        """Long table: flow, time, distance, loss_difference, charge_error."""
        import pandas as pd

        parts = []
        for name in self.flows:
            columns = {
                "flow": name,
                "time": self.times.numpy(),
                "distance": self.distance[name].numpy(),
                "loss_difference": self.loss_difference[name].numpy(),
            }
            if self.charge_error:
                columns["charge_error"] = self.charge_error[name].numpy()
            parts.append(pd.DataFrame(columns))
        return pd.concat(parts, ignore_index=True)

    def summary(self) -> pd.DataFrame:
        """One row a flow: largest and final distance, largest loss difference and charge error, cost, reason."""
        import pandas as pd

        rows = {}
        for name, path in self.flows.items():
            rows[name] = {
                "max_distance": _largest(self.distance[name]),
                "final_distance": float(self.distance[name][-1]),
                "max_loss_difference": _largest(self.loss_difference[name]),
                "max_charge_error": _largest(self.charge_error[name]) if self.charge_error else math.nan,
                "error_estimate": float(path.error_estimate[-1]),
                "evaluations": path.evaluations,
                "reason": str(path.reason),
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("flow")

    def best(self, until: float = math.inf) -> str:
        """The flow with the smallest largest distance up to a time; one that stopped before it never wins."""
        reached = self.times <= until
        # A flow that stopped before is NaN from there on, and so is its maximum.
        worst = {name: float(distance[reached].max()) for name, distance in self.distance.items()}
        alive = {name: value for name, value in worst.items() if not math.isnan(value)}
        if not alive:
            raise ValueError(f"no flow reached t={until}: see .summary() for the reasons")
        return min(alive, key=alive.__getitem__)


def compare_flows(
    loss: Loss,
    theta0: Mapping[str, Tensor],
    *,
    optimizer: OptimizerFactory,
    steps: int,
    flows: Mapping[str, Flow] | None = None,
    symmetries: Charges | None = None,
    every: int = 1,
    method: str = "auto",
    step: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_evaluations: int = 200_000,
    estimate_error: bool = True,
    meter: Meter | None = None,
) -> Comparison:
    """The real optimiser and every flow from θ0, compared at the optimiser's times.

    ``optimizer`` makes one from a list of tensors, for example ``lambda p: torch.optim.SGD(p, lr=0.1)``. ``flows``
    defaults to ``matching_flows``. ``method`` and what follows go to ``integrate``.

    >>> import torch
    >>> compared = compare_flows(
    ...     lambda p: 0.5 * p["x"] ** 2,
    ...     {"x": torch.tensor(1.0)},
    ...     optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
    ...     steps=10,
    ... )
    >>> compared.best()
    'modified flow, order 4'
    """
    run = descend(loss, theta0, optimizer, steps, symmetries, every=every, meter=meter)
    if flows is None:
        # Made on copies that are thrown away: its hyperparameters alone are read.
        probe = [value.detach().to(torch.float64).clone().requires_grad_(True) for value in theta0.values()]
        flows = matching_flows(loss, optimizer(probe))
    if not flows:
        raise ValueError("flows is empty: name at least one, or leave it out for those that match the optimiser")
    paths = {}
    for name, flow in flows.items():
        paths[name] = integrate(
            flow,
            theta0,
            run.times,
            symmetries,
            method,
            step=step,
            rtol=rtol,
            atol=atol,
            max_evaluations=max_evaluations,
            estimate_error=estimate_error,
            meter=meter,
        )
    return Comparison(run, paths)


def _flat(path: Path) -> Tensor:
    return torch.cat([values.reshape(len(path.times), -1) for values in path.params.values()], dim=1)


def _padded(values: Tensor, length: int) -> Tensor:
    return torch.cat([values, values.new_full((length - len(values),), math.nan)])


def _largest(values: Tensor) -> float:
    finite = values[~values.isnan()]
    return float(finite.max()) if len(finite) else math.nan
