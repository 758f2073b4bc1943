"""The modified flow of descent: as a massive particle, or as a first-order equation to any order in the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss, Objective
from neuralmechanics.flows.equation.straight_line import Warm
from neuralmechanics.flows.equation.system import Field, System, steady
from neuralmechanics.flows.models.descent import require_modelled, transient_shift
from neuralmechanics.flows.models.inertial import inertial_system
from neuralmechanics.flows.models.map_logarithm import map_logarithm, require_order
from neuralmechanics.flows.models.schedule import Schedule
from neuralmechanics.flows.models.series import coefficients, series_field
from neuralmechanics.functional.derivatives.higher_derivatives import exact_forms
from neuralmechanics.functional.derivatives.verification import require_right_derivatives
from neuralmechanics.optimizers.hyperparameters.bounds import require_positive
from neuralmechanics.optimizers.hyperparameters.sgd import Sgd

__all__ = ["ModifiedFieldFlow", "ModifiedFlow"]

Route = Literal["map", "derivatives"]


@dataclass(frozen=True)
class ModifiedFlow:
    """The equation that descent at finite learning rate obeys.

    Without ``order``: (h/2)(1+β)θ'' + (1-β)θ' = -(g + λθ), with Nesterov's term, the right θ'(0), and learning rates
    in constant pieces, with momentum too.
    With ``order=n``: θ' = F(θ), F truncated so that descent follows with global error O(h^n), by ``route``
    "map" (logarithm of the optimiser's map: gradients only, schedules of constant pieces; β = 0) or "derivatives"
    (backward error analysis by nested directional derivatives; with momentum the slow-manifold series). The series
    starts where the initial layer of momentum leaves the iterates, known to O(h²), unless ``shift_start=False``.
    """

    loss: Loss
    _: KW_ONLY
    learning_rate: float | Sequence[tuple[int, float]] | Schedule
    order: int | None = None
    weight_decay: float = 0.0
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    route: Route | None = None
    shift_start: bool = True
    at_rest: bool = False

    def __post_init__(self) -> None:
        require_modelled(self.sgd)
        if self.order is not None:
            require_order(self.order)
        if self.route not in (None, "map", "derivatives"):
            raise ValueError(f"route is {self.route!r}, expected 'map' or 'derivatives'")
        if self.route == "map" and self.momentum:
            raise ValueError(
                f"route='map' with momentum={self.momentum}: the map of (θ, v) is not near the identity; "
                "use route='derivatives', the slow-manifold series"
            )
        if self.momentum and self.order is not None and not self.schedule.constant:
            raise ValueError(
                f"order={self.order} with momentum={self.momentum} and a learning rate schedule: each change of rate "
                "starts a new initial layer that the series leaves out; drop order for the second-order flow"
            )

    @property
    def schedule(self) -> Schedule:
        """The learning rates over time."""
        return Schedule.of(self.learning_rate)

    @property
    def sgd(self) -> Sgd[float]:
        """The optimiser that is modelled, at its smallest learning rate."""
        rate = self.schedule.smallest
        return Sgd(rate, self.weight_decay, self.momentum, self.dampening, self.nesterov)

    @property
    def label(self) -> str:
        """A few words for tables and legends."""
        return "modified flow" if self.order is None else f"modified flow, order {self.order}"

    def system(self, theta0: Mapping[str, Tensor]) -> System:
        """The equation started from θ0."""
        sgd = self.sgd
        if self.order is None:
            return inertial_system(self.loss, theta0, sgd, schedule=self.schedule, at_rest=self.at_rest)
        layout = Layout.of(theta0)
        objective = Objective(self.loss, layout, self.weight_decay)
        start = layout.flatten(theta0)
        if self._nested:
            objective.require(start, self.order)
        # A series of order 1 is wrong by as much as this shift anyway.
        if self.momentum and self.shift_start and self.order > 1:
            start = start + transient_shift(sgd) * sgd.time_step * objective.gradient(start)
        return System(layout, start, self.schedule.fields(self._field(objective)), sgd.time_step, self.order)

    @property
    def _nested(self) -> bool:
        """Whether the series is summed from nested derivatives."""
        return self.order is not None and (self.momentum != 0 or self.route == "derivatives")

    def _field(self, objective: Objective) -> Callable[[float], Field]:
        assert self.order is not None
        order = self.order
        if not self._nested:
            return lambda rate: map_logarithm(lambda x: x - rate * objective.gradient(x), rate, order)
        # The very float that the optimiser multiplies by, not the decimal that it was written as.
        weights = coefficients(order, Fraction(self.momentum), self.nesterov)
        factor = self.sgd.time_step / self.sgd.learning_rate

        def source(x: Tensor) -> tuple[Tensor, Tensor]:
            point, slope = objective.recorded_gradient(x, order)
            return point, -slope

        return lambda rate: Warm(series_field(source, weights, rate * factor, gradient=True))


@dataclass(frozen=True)
class ModifiedFieldFlow:
    """The modified flow of θ ← θ + h f(θ) for any differentiable field f over named parameters, not only -∇L.

    Source: Hairer, Lubich, Wanner, chapter IX; the rotation θ' = (-θ2, θ1) becomes the spiral e^{ht/2} at order 2.
    """

    field: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]
    _: KW_ONLY
    time_step: float
    order: int
    loss: Loss
    route: Route = "derivatives"

    def __post_init__(self) -> None:
        require_positive("time_step", self.time_step)
        require_order(self.order)
        if self.route not in ("map", "derivatives"):
            raise ValueError(f"route is {self.route!r}, expected 'map' or 'derivatives'")

    @property
    def label(self) -> str:
        """A few words for tables and legends."""
        return f"modified flow, order {self.order}"

    def system(self, theta0: Mapping[str, Tensor]) -> System:
        """The equation started from θ0."""
        layout = Layout.of(theta0)
        start = layout.flatten(theta0)

        def joined(point: Tensor) -> Tensor:
            named = self.field(layout.unflatten(point))
            return torch.cat([named[name].reshape(-1) for name in layout.names])

        def source(x: Tensor) -> tuple[Tensor, Tensor]:
            point = x.detach().requires_grad_(True)
            with exact_forms():
                return point, joined(point)

        if self.route == "map":
            rule = map_logarithm(lambda x: x + self.time_step * source(x)[1].detach(), self.time_step, self.order)
        else:
            # The check takes a number: the product with a fixed vector, which must not vanish where θ does.
            require_right_derivatives(lambda point: joined(point).dot(start + 1), start, self.order)
            rule = Warm(series_field(source, coefficients(self.order), self.time_step, gradient=False))
        return System(layout, start, steady(rule), self.time_step, self.order)
