"""Oscillations seen as two ends, w - v and w + v, between which the iterates change sides: centre, swing, average."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.edge.oscillation import Oscillation
from neuralmechanics.flows.edge.unstable_space import largest_curvature
from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Objective
from neuralmechanics.flows.equation.system import System, steady

__all__ = ["Averages", "Ends", "Growth", "TwoEnded", "two_ended"]


@dataclass(frozen=True)
class Ends:
    """Where the ends w ± v are, and the gradients there: their mean, and half their difference, which is Hv at first
    order in v. ``divisor`` is what divides a gradient in a step: 1, or √ν + eps."""

    centre: Float64[Tensor, " parameters"]
    swing: Float64[Tensor, " parameters"]
    mean: Float64[Tensor, " parameters"]
    half: Float64[Tensor, " parameters"]
    divisor: Float64[Tensor, " parameters"]


# What says how the swing changes in the time of one step: η v'.
Growth = Callable[[Objective, Ends, float], Tensor]


@dataclass(frozen=True)
class Averages:
    """RMSprop's moving average of squared gradients: ν ← αν + (1-α)g², steps divided by √ν + eps."""

    smoothing: float
    eps: float
    squares: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class TwoEnded:
    """w' = -(g₊ + g₋)/2R, ηv' = ``growth``, ην' = (1-α)/α ((g₊² + g₋²)/2 - ν), R = √ν + eps; for descent R = 1.

    The state is (w, v), or (w, v, ν) with ``averages``.
    """

    objective: Objective
    growth: Growth
    learning_rate: float
    averages: Averages | None = None

    def system(self, theta0: Mapping[str, Tensor], swing: Mapping[str, Tensor] | None, order: int) -> System:
        """The equation about the centre θ0, or, without a swing, from the iterate θ0 and the one that follows it."""
        layout = self.objective.layout
        start = self.objective.require(layout.flatten(theta0), order)
        state = self._first_step(start) if swing is None else self._about(start, layout.flatten(swing))
        beside = ("swing",) if self.averages is None else ("swing", "squares")
        # The flattest directions of the swing shrink at the rate 2/η: a step of half an η also serves estimates.
        return System(layout, state, steady(self._velocity), self.learning_rate / 2, beside=beside)

    def oscillation(
        self, params: Mapping[str, Tensor], swing: Mapping[str, Tensor], squares: Mapping[str, Tensor] | None = None
    ) -> Oscillation:
        """Curvature along the swing, its length, and the averages over both ends."""
        layout = self.objective.layout
        squares_there = None if squares is None else layout.flatten(squares)
        ends = self._ends(layout.flatten(params), layout.flatten(swing), squares_there)
        precision = ends.divisor / self.learning_rate if self.averages else torch.ones_like(ends.divisor)
        length = (ends.swing.square() * precision).sum().sqrt()
        # A rod of no length has no direction.
        kept = 1 if float(length) > 0 else 0
        along = (ends.swing / length)[:, None][:, :kept]
        curved = (ends.half / length)[:, None][:, :kept]
        return Oscillation(
            values=(along * curved).sum(0).cpu(),
            directions=along,
            covariance=length.square().reshape(1, 1)[:kept, :kept],
            curved=curved,
            gradient=ends.mean,
            velocity=-ends.mean / ends.divisor,
            loss=sum(self.objective.value(ends.centre + sign * ends.swing) for sign in (1, -1)) / 2,
            centre=ends.centre,
            largest=largest_curvature(self.objective, precision.rsqrt() if self.averages else None),
            layout=layout,
        )

    def _velocity(self, state: Tensor) -> Tensor:
        """All parts of the state, in the time of descent, η a step."""
        centre, swing, *squares = torch.split(state, self.objective.layout.size)
        ends = self._ends(centre, swing, squares[0] if squares else None)
        turn = _outlive_rounding(ends, self.growth(self.objective, ends, self.learning_rate))
        parts = [-ends.mean / ends.divisor, turn / self.learning_rate]
        if self.averages is not None:
            smoothing = self.averages.smoothing
            # Of (g₊² + g₋²)/2.
            square = ends.mean.square() + ends.half.square()
            parts.append((1 - smoothing) / (smoothing * self.learning_rate) * (square - squares[0]))
        return torch.cat(parts)

    def _ends(self, centre: Tensor, swing: Tensor, squares: Tensor | None) -> Ends:
        plus, minus = self.objective.gradient(centre + swing), self.objective.gradient(centre - swing)
        return Ends(centre, swing, (plus + minus) / 2, (plus - minus) / 2, self._divisor(centre, squares))

    def _divisor(self, centre: Tensor, squares: Tensor | None) -> Tensor:
        if self.averages is None or squares is None:
            return torch.ones_like(centre)
        return squares.clamp(min=torch.finfo(squares.dtype).tiny).sqrt() + self.averages.eps

    def _first_step(self, start: Tensor) -> Tensor:
        """The state that lies between an iterate and the next."""
        gradient = self.objective.gradient(start)
        squares = None
        if self.averages is not None:
            # Without an average of its own the optimiser is taken to have rested here.
            given = self.averages.squares
            before = gradient.square() if given is None else self.objective.layout.flatten(given)
            squares = before + (1 - self.averages.smoothing) * (gradient.square() - before)
        step = -self.learning_rate * gradient / self._divisor(start, squares)
        # Half-way between the two iterates, and half the way from one to the other.
        return torch.cat([start + step / 2, step / 2] + ([] if squares is None else [squares]))

    def _about(self, centre: Tensor, swing: Tensor) -> Tensor:
        if self.averages is None:
            return torch.cat([centre, swing])
        ends = self._ends(centre, swing, None)
        given = self.averages.squares
        rest = ends.mean.square() + ends.half.square()
        return torch.cat([centre, swing, rest if given is None else self.objective.layout.flatten(given)])


def _outlive_rounding(ends: Ends, turn: Tensor) -> Tensor:
    """The growth without what would shrink a swing that is as small as rounding: in training rounding renews it.

    A swing that had died out below the edge could not begin again where the edge is reached.
    """
    square, pull = float(ends.swing.square().sum()), float(ends.swing.dot(turn))
    rounding = torch.finfo(turn.dtype).eps * (1 + float(ends.centre.norm()))
    if pull < 0 < square <= rounding**2:
        return turn - ends.swing * (pull / square)
    return turn


def two_ended(
    loss: Callable[[dict[str, Tensor]], Tensor],
    params: Mapping[str, Tensor],
    growth: Growth,
    learning_rate: float,
    weight_decay: float,
    averages: Averages | None = None,
) -> TwoEnded:
    """The equation on the layout of ``params``."""
    return TwoEnded(Objective(loss, Layout.of(params), weight_decay), growth, learning_rate, averages)
