"""One batch, looked at from θ and from points a rounding away: everything that no family enters, computed once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from neuralmechanics.diagnostics.checking.readings import Point
from neuralmechanics.diagnostics.checking.samples import separate
from neuralmechanics.diagnostics.checking.verdicts import LIMIT
from neuralmechanics.functional.hessian_products import GradientGraph, gradient_graph
from neuralmechanics.functional.precision import coarsest_dtype, jitter, unit
from neuralmechanics.functional.pure_loss import Objective

__all__ = ["Fine", "Scene", "working_dtype"]

_JITTERS = 4  # points a rounding away, from which the noise of every residual is read


@dataclass(frozen=True, eq=False)
class Fine:
    """The loss in the finest precision that the model allows, its value, and its changes under jitter there."""

    objective: Objective
    params: Mapping[str, Tensor]
    loss: float
    changes: tuple[float, ...]
    rounding: float

    @property
    def noise(self) -> float:
        """What rounding leaves in a difference of two losses."""
        return root_mean_square(self.changes) + self.rounding * abs(self.loss)


@dataclass(frozen=True, eq=False)
class Scene:
    """Losses, gradients, single samples and Hessian products on one batch.

    ``elsewhere``: gradients at other parameters and a rounding away from them, computed when asked for.
    ``same_function``: whether the fine loss is the loss itself, rounding apart (random layers draw other numbers in
    another precision). ``refusal``: why there are no Hessian products.
    """

    objective: Objective
    here: Point
    jittered: tuple[Point, ...]
    fine: Fine
    same_function: bool
    samples: tuple[tuple[Point, tuple[Point, ...]], ...]
    graphs: tuple[GradientGraph, GradientGraph] | None
    refusal: str
    rounding: float

    @classmethod
    def of(
        cls, objective: Objective, params: Mapping[str, Tensor], rounding: float, hessian: bool, samples: int,
        generator: torch.Generator,
    ) -> Scene:  # fmt: skip
        """Looks at one batch: five gradients, two more a sample, two gradient graphs, five losses in float64."""
        here = _point(objective, params)
        near = [jitter(params, rounding, generator) for _ in range(_JITTERS)]
        jittered = tuple(_point(objective, p) for p in near)
        changes = tuple(p.loss - here.loss for p in jittered)
        slack = LIMIT * (rounding * abs(here.loss) + root_mean_square(changes))
        coarse = Fine(objective, params, here.loss, changes, rounding)
        fine = _in_double(objective, params, generator) if rounding > unit(torch.float64) else None
        fine = fine if fine is not None and fine.rounding < rounding else coarse
        same = abs(fine.loss - here.loss) <= slack
        tolerance = LIMIT * fine.noise / max(abs(fine.loss), 1e-300)
        singles = separate(fine.objective, fine.params, fine.loss, tolerance, samples)
        cut = [objective.on(single.batch) for single in singles]
        pairs = tuple((_point(single, params), (_point(single, near[0]),)) for single in cut)
        graphs, refusal = None, ""
        if hessian:
            try:
                graphs = gradient_graph(objective, params), gradient_graph(objective, near[0])
                graphs[0].product(params)  # some operations refuse only here
            except RuntimeError as error:
                graphs, refusal = None, f"no second derivative here: {str(error).splitlines()[0]}"
        return cls(objective, here, jittered, fine, same, pairs, graphs, refusal, rounding)

    @cached_property
    def elsewhere(self) -> tuple[Point, tuple[Point, ...]]:
        """Gradients at parameters moved by a tenth of their size: what holds there holds all around."""
        generator = torch.Generator().manual_seed(0)
        moved = {}
        for name, p in self.here.params.items():
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.device)
            wide = p.detach().double()
            moved[name] = (wide + 0.1 * (wide.square().mean().sqrt() + 1e-3) * noise).to(p.dtype)
        near = tuple(_point(self.objective, jitter(moved, self.rounding, generator)) for _ in range(_JITTERS))
        return _point(self.objective, moved), near


def working_dtype(objective: Objective, params: Mapping[str, Tensor]) -> torch.dtype:
    """The coarsest precision between parameters and loss."""
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    return coarsest_dtype(objective(leaves), leaves)


def root_mean_square(values: tuple[float, ...]) -> float:
    """√(mean of squares); 0 of nothing."""
    return math.sqrt(sum(v * v for v in values) / len(values)) if values else 0.0


def _in_double(objective: Objective, params: Mapping[str, Tensor], generator: torch.Generator) -> Fine | None:
    """The same loss in float64, or None where the model insists on its own precision."""
    double = objective.in_double()
    wide = {name: p.detach().double() for name, p in params.items()}
    try:
        rounding = unit(working_dtype(double, wide))
        loss = double.value(wide)
    except (RuntimeError, TypeError, ValueError):
        return None
    near = [double.value(jitter(wide, rounding, generator)) for _ in range(_JITTERS)]
    return Fine(double, wide, loss, tuple(value - loss for value in near), rounding)


def _point(objective: Objective, params: Mapping[str, Tensor]) -> Point:
    loss, gradient = objective.gradient(params)
    return Point(params, float(loss), gradient)
