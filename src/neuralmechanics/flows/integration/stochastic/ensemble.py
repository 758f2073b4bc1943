"""Many sample paths of the stochastic flow at once: the same paths as one by one, with their gradients batched."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.equation.charges import Charges
from neuralmechanics.flows.equation.stop import Halt
from neuralmechanics.flows.integration.guard import Guard
from neuralmechanics.flows.integration.integrate import checked_times
from neuralmechanics.flows.integration.path import Path
from neuralmechanics.flows.integration.recorder import Recorder, Visit, follow
from neuralmechanics.flows.integration.stochastic.stochastic_paths import Draws
from neuralmechanics.flows.models.stochastic import Noise, StochasticFlow
from neuralmechanics.optimizers.hyperparameters.bounds import require_positive

__all__ = ["simulate_paths"]

_AT_ONCE = 256  # gradients in one batch: more would cost memory and gain little
_SAME = 1e-9  # between one gradient alone and in a batch

Points = Float64[Tensor, "points parameters"]


def simulate_paths(
    flow: StochasticFlow,
    theta0: Mapping[str, Tensor],
    times: Sequence[float] | Tensor,
    paths: int,
    symmetries: Charges | None = None,
    scheme: Literal["euler_maruyama", "weak2"] = "euler_maruyama",
    *,
    step: float | None = None,
    seed: int = 0,
    max_evaluations: int = 1_000_000,
    max_size: float | None = None,
) -> tuple[Path, ...]:
    """``paths`` sample paths, the k-th with the random numbers of ``simulate(…, seed=seed + k)``, equal to rounding.

    All take their steps together, and the gradients of one step are one batch under ``vmap``; losses that cannot be
    batched (in-place writes, random layers) are differentiated one by one. A path that ends early ends alone.
    """
    if paths < 1:
        raise ValueError(f"paths is {paths}; give 1 or more")
    if scheme not in ("euler_maruyama", "weak2"):
        raise ValueError(f"scheme is {scheme!r}, expected 'euler_maruyama' or 'weak2'")
    length = flow.learning_rate if step is None else step
    require_positive("step", length)
    instants = checked_times(times)
    equation = flow.noise(theta0)
    start = equation.layout.flatten(theta0)
    batched = _Batched(equation, start)
    walks = [_Walk(Guard(max_evaluations, start, max_size), seed + k, equation, scheme) for k in range(paths)]
    for walk in walks:
        walk.arrive(instants[0], start)
    for begin, end in itertools.pairwise(instants):
        count = max(1, math.ceil((end - begin) / length - 1e-9))
        h = (end - begin) / count
        for _ in range(count):
            going = [walk for walk in walks if walk.ready()]
            if going:
                _step(batched, going, h, scheme)
        for walk in walks:
            if walk.halt is None:
                walk.arrive(end, walk.state)
    recorders = (Recorder(flow.loss, flow.label, equation.layout, symmetries) for _ in walks)
    steps = len(instants)
    return tuple(
        follow(walk.visits(), recorder, walk.guard, steps=steps, meter=None)
        for walk, recorder in zip(walks, recorders, strict=True)
    )


class _Walk:
    """One path on its way: where it is, its random numbers, and what it has visited."""

    def __init__(self, guard: Guard, seed: int, equation: Noise, scheme: str) -> None:
        self.guard = guard
        self.draws = Draws(equation.samples, seed, scheme)
        self.halt: Halt | None = None
        self._visited: list[Visit] = []
        self._counted = guard.watch(lambda x: x)

    def arrive(self, time: float, state: Tensor) -> None:
        """A time that was asked for."""
        self.move(state)
        if self.halt is None:
            self._visited.append(Visit(time, self.state))

    def ready(self) -> bool:
        """Whether it takes the next step, which counts as one evaluation."""
        if self.halt is None:
            try:
                self._counted(self.state)
            except Halt as halt:
                self.halt = halt
        return self.halt is None

    def move(self, state: Tensor) -> None:
        """To a state, unless it is not finite or too large: there the path ends."""
        try:
            self.state = self.guard.accept(state)
        except Halt as halt:
            self.halt = halt

    def visits(self) -> Iterator[Visit]:
        """What was visited, then the reason why no more was."""
        yield from self._visited
        if self.halt is not None:
            raise self.halt


class _Batched:
    """Drift and noise at many points, in batches where the losses allow it."""

    def __init__(self, equation: Noise, start: Tensor) -> None:
        self.equation = equation
        self._drift = self._checked(self._batched_drift, lambda x: equation.drift(x), start)
        weights = torch.randn(equation.samples, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        probe = weights.to(start.device)
        self._along = self._checked(self._batched_along, equation.along, start, probe)

    def drift(self, x: Points) -> Points:
        """-∇J at each point."""
        return self._drift(x)

    def along(self, x: Points, weights: Float64[Tensor, "points samples"]) -> Points:
        """Σ_j w_j b_j at each point."""
        return self._along(x, weights)

    def _checked(
        self, together: Callable[..., Tensor], alone: Callable[..., Tensor], *probe: Tensor
    ) -> Callable[..., Tensor]:
        """The batched function where it gives what the other one does, else the other one for each point."""

        def one_by_one(*arguments: Tensor) -> Tensor:
            return torch.stack([alone(*given) for given in zip(*arguments, strict=True)])

        try:
            found = together(*(torch.stack([p, p]) for p in probe))
        except (RuntimeError, ValueError, TypeError, NotImplementedError):
            return one_by_one
        true = alone(*probe)
        same = torch.allclose(found, true.expand_as(found), rtol=_SAME, atol=_SAME * float(true.abs().max()))
        return together if same else one_by_one

    def _batched_drift(self, x: Points) -> Points:
        flow, layout = self.equation.flow, self.equation.layout
        if flow.modified:
            raise NotImplementedError("second derivatives are taken one by one, where they are verified")

        def objective(point: Tensor) -> Tensor:
            loss = flow.loss(layout.unflatten(point)).reshape(()).to(torch.float64)
            return loss + 0.5 * flow.weight_decay * point.dot(point)

        slopes: Tensor = torch.func.vmap(torch.func.grad(objective), chunk_size=_AT_ONCE)(x)
        return -slopes

    def _batched_along(self, x: Points, weights: Tensor) -> Points:
        flow, layout = self.equation.flow, self.equation.layout

        def weighted(point: Tensor, w: Tensor) -> Tensor:
            return flow.losses(layout.unflatten(point)).to(torch.float64).dot(w)

        centred = (weights - weights.mean(1, keepdim=True)) * self.equation.scale
        found: Tensor = torch.func.vmap(torch.func.grad(weighted), chunk_size=_AT_ONCE)(x, centred)
        return found


def _step(equation: _Batched, walks: Sequence[_Walk], h: float, scheme: str) -> None:
    x = torch.stack([walk.state for walk in walks])
    drawn = [walk.draws.draw(h, x.device) for walk in walks]
    increments = torch.stack([first for first, _ in drawn])
    if scheme == "euler_maruyama":
        after = x + h * equation.drift(x) + equation.along(x, increments)
    else:
        signs = [second for _, second in drawn if second is not None]
        after = _weak_second_order(equation, x, h, increments, torch.stack(signs))
    for walk, state in zip(walks, after, strict=True):
        walk.move(state)


def _weak_second_order(equation: _Batched, x: Tensor, h: float, increments: Tensor, signs: Tensor) -> Tensor:
    """Platen's step as ``weak_second_order_step`` takes it, over all paths and all noises at once."""
    root, (paths, m), size = math.sqrt(h), increments.shape, x.shape[1]
    slope = equation.drift(x)
    ahead = x + h * slope
    end = x + h / 2 * (slope + equation.drift(ahead + equation.along(x, increments)))
    end = end + equation.along(x, (0.5 - (m - 1) / 2) * increments)
    crossed = (increments[:, :, None] * increments[:, None, :] + h * signs) / root
    only = torch.eye(m, dtype=x.dtype, device=x.device).expand(paths, m, m)

    # Each pair of a path and a noise is a point of its own: one batch holds the supporting points of all paths.
    def spread(points: Tensor) -> Tensor:
        return points[:, None].expand(paths, m, size).reshape(-1, size)

    def summed(points: Tensor, weights: Tensor) -> Tensor:
        return equation.along(points, weights.reshape(-1, m)).reshape(paths, m, size).sum(1)

    reach = root * equation.along(spread(x), only.reshape(-1, m))
    for side in (1.0, -1.0):
        own = (increments + side * (increments.square() - h) / root) / 4
        end = end + summed(spread(ahead) + side * reach, own[:, :, None] * only)
        others = (increments[:, None, :] + side * crossed) / 4 * (1 - only)
        end = end + summed(spread(x) + side * reach, others)
    return end
