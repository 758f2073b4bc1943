"""Sample paths of the stochastic flow: Euler-Maruyama, and Platen's explicit scheme of weak order 2."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.equation.charges import Charges
from neuralmechanics.flows.integration.guard import Guard
from neuralmechanics.flows.integration.integrate import checked_times
from neuralmechanics.flows.integration.path import Path
from neuralmechanics.flows.integration.recorder import Recorder, Visit, follow
from neuralmechanics.flows.models.stochastic import StochasticFlow
from neuralmechanics.optimizers.hyperparameters.bounds import require_positive, require_whole
from neuralmechanics.progress import Meter

__all__ = ["Draws", "euler_maruyama_step", "simulate", "weak_second_order_step"]


class _Equation(Protocol):
    """dx = drift(x) dt + Σ_j b_j(x) dW_j, the columns b_j only in weighted sums."""

    def drift(self, x: Tensor) -> Tensor: ...

    def along(self, x: Tensor, weights: Tensor) -> Tensor: ...


def euler_maruyama_step(equation: _Equation, x: Tensor, h: float, increments: Float64[Tensor, " samples"]) -> Tensor:
    """x + a h + Σ_j b_j ΔW_j: weak order 1, two gradients."""
    return x + h * equation.drift(x) + equation.along(x, increments)


def weak_second_order_step(
    equation: _Equation,
    x: Tensor,
    h: float,
    increments: Float64[Tensor, " samples"],
    signs: Float64[Tensor, "samples samples"],
) -> Tensor:
    """Platen's explicit step of weak order 2 for m non-commuting noises: 4m + 3 gradients, no derivative of noise.

    ``increments`` are three-point, ±√(3h) with probability 1/6 each, else 0. ``signs`` is antisymmetric off its
    diagonal with entries ±1, and -1 on it. Source: Kloeden and Platen 1992, equation 15.1.3.
    """
    root, m = math.sqrt(h), len(increments)
    slope = equation.drift(x)
    ahead = x + h * slope
    end = x + h / 2 * (slope + equation.drift(ahead + equation.along(x, increments)))
    end = end + equation.along(x, (0.5 - (m - 1) / 2) * increments)
    crossed = (increments[:, None] * increments[None, :] + h * signs) / root
    for j in range(m):
        # Supporting points along each noise alone: differences take the place of its derivatives.
        only = torch.zeros_like(increments)
        only[j] = 1.0
        reach = root * equation.along(x, only)
        for side in (1.0, -1.0):
            own = (increments[j] + side * (increments[j] ** 2 - h) / root) / 4
            end = end + equation.along(ahead + side * reach, own * only)
            others = (increments + side * crossed[j]) / 4 * (1 - only)
            end = end + equation.along(x + side * reach, others)
    return end


def simulate(
    flow: StochasticFlow,
    theta0: Mapping[str, Tensor],
    times: Sequence[float] | Tensor,
    symmetries: Charges | None = None,
    scheme: Literal["euler_maruyama", "weak2"] = "euler_maruyama",
    *,
    step: float | None = None,
    seed: int = 0,
    max_evaluations: int = 1_000_000,
    max_size: float | None = None,
    meter: Meter | None = None,
) -> Path:
    """One sample path through ``times`` in steps of at most ``step`` (default: the learning rate).

    The same seed gives the same path; ``simulate_paths`` takes many at once. ``evaluations`` counts steps. The reasons
    for stopping are those of ``integrate``.
    """
    if scheme not in ("euler_maruyama", "weak2"):
        raise ValueError(f"scheme is {scheme!r}, expected 'euler_maruyama' or 'weak2'")
    if not hasattr(flow, "noise"):
        raise TypeError(f"{type(flow).__name__} has no noise to draw paths of; follow it with integrate")
    require_whole("seed", seed, 0)
    length = flow.learning_rate if step is None else step
    require_positive("step", length)
    instants = checked_times(times)
    equation = flow.noise(theta0)
    start = equation.layout.flatten(theta0)
    guard = Guard(max_evaluations, start, max_size)
    recorder = Recorder(flow.loss, flow.label, equation.layout, symmetries)
    draw = Draws(equation.samples, seed, scheme)
    advance = guard.watch(lambda x: draw.step(equation, x))

    def visits() -> Iterator[Visit]:
        x = guard.accept(start)
        yield Visit(instants[0], x)
        for begin, end in itertools.pairwise(instants):
            count = max(1, math.ceil((end - begin) / length - 1e-9))
            draw.h = (end - begin) / count
            for _ in range(count):
                x = guard.accept(advance(x))
            yield Visit(end, x)

    return follow(visits(), recorder, guard, steps=len(instants), meter=meter)


class Draws:
    """The random numbers of one path, from a generator of its own."""

    def __init__(self, samples: int, seed: int, scheme: str) -> None:
        self.samples = samples
        self.generator = torch.Generator().manual_seed(seed)
        self.scheme = scheme
        self.h = 0.0

    def draw(self, h: float, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """The increments of a step of length h, and the signs that weak order 2 asks for besides."""
        if self.scheme == "euler_maruyama":
            # Drawn on the host: the same path on every device.
            normal = torch.randn(self.samples, generator=self.generator, dtype=torch.float64)
            return math.sqrt(h) * normal.to(device), None
        uniform = torch.rand(self.samples, generator=self.generator, dtype=torch.float64)
        # Moments up to the fifth are those of a normal variable, which is all that weak order 2 asks.
        three_point = math.sqrt(3 * h) * ((uniform < 1 / 6).double() - (uniform > 5 / 6).double())
        coins = torch.randint(2, (self.samples, self.samples), generator=self.generator).double() * 2 - 1
        upper = coins.triu(1)
        signs = upper - upper.T - torch.eye(self.samples, dtype=torch.float64)
        return three_point.to(device), signs.to(device)

    def step(self, equation: _Equation, x: Tensor) -> Tensor:
        """One step from x, of length ``h``."""
        increments, signs = self.draw(self.h, x.device)
        if signs is None:
            return euler_maruyama_step(equation, x, self.h, increments)
        return weak_second_order_step(equation, x, self.h, increments, signs)
