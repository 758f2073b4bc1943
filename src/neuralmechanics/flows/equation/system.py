"""What a flow is to an integrator: a start, and autonomous fields x' = f(x) on consecutive stretches of time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss

__all__ = ["Field", "Flow", "Piece", "System", "steady", "velocity"]

Field = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Piece:
    """x' = field(x) for start < t < end."""

    start: float
    end: float
    field: Field


@dataclass(frozen=True)
class System:
    """An ordinary differential equation for a state whose first entries are the parameters.

    ``pieces(a, b)`` tiles [a, b]; ``time_step`` is the time of one optimiser step, where there is one: integrators
    take it as their default step. ``order`` is the power of that step to which descent follows the equation, where it
    is a series: an integrator of a lower order, at that step, would show its own error in its place. ``beside`` names
    what the state holds behind the parameters, each as large as they are.
    """

    layout: Layout
    initial: Float64[Tensor, " state"]
    pieces: Callable[[float, float], Iterator[Piece]]
    time_step: float | None = None
    order: int | None = None
    beside: tuple[str, ...] = ()

    def parameters(self, state: Float64[Tensor, " state"]) -> dict[str, Tensor]:
        """The parameters that a state holds, by name."""
        return self.layout.unflatten(state[: self.layout.size])


@runtime_checkable
class Flow(Protocol):
    """A continuous model of training: a loss over named parameters and the equation they obey."""

    @property
    def loss(self) -> Loss: ...

    @property
    def label(self) -> str:
        """A few words for tables and legends."""
        ...

    def system(self, theta0: Mapping[str, Tensor]) -> System:
        """The equation started from θ0."""
        ...


def steady(field: Field) -> Callable[[float, float], Iterator[Piece]]:
    """One field for all times."""

    def pieces(start: float, end: float) -> Iterator[Piece]:
        yield Piece(start, end, field)

    return pieces


def velocity(flow: Flow, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """θ' of the flow at ``params`` and time 0; for a second-order flow its initial velocity.

    >>> import torch
    >>> from neuralmechanics.flows import GradientFlow
    >>> velocity(GradientFlow(lambda p: p["x"].square().sum()), {"x": torch.tensor([1.0, -2.0])})["x"]
    tensor([-2.,  4.], dtype=torch.float64)
    """
    system = flow.system(params)
    # Pieces are made as they are asked for: of endless time only the first.
    first = next(system.pieces(0.0, math.inf))
    return system.parameters(first.field(system.initial))
