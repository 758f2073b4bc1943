"""One batch, looked at from θ and from points a rounding away: everything that no family enters, computed once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from neuralmechanics.diagnostics.checking.readings import Gradients
from neuralmechanics.diagnostics.checking.samples import separate
from neuralmechanics.diagnostics.checking.verdicts import LIMIT
from neuralmechanics.functional.derivatives.hessian_products import GradientGraph, gradient_graph
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
    """Loss, gradients and Hessian products on one batch.

    ``points``: the gradient at θ, with those of single samples behind it, and the same at points a rounding away.
    ``changes``: those of the loss there; ``samples``: how many single samples there are.
    ``elsewhere``: gradients at other parameters and a rounding away from them, computed when asked for.
    ``same_function``: whether the fine loss is the loss itself, rounding apart (random layers draw other numbers in
    another precision). ``refusal``: why there are no Hessian products.
    """

    objective: Objective
    params: Mapping[str, Tensor]
    loss: float
    changes: tuple[float, ...]
    points: tuple[Gradients, ...]
    samples: int
    fine: Fine
    same_function: bool
    graphs: tuple[GradientGraph, GradientGraph] | None
    refusal: str
    rounding: float

    @classmethod
    def of(
        cls, objective: Objective, params: Mapping[str, Tensor], rounding: float, hessian: bool, samples: int,
        generator: torch.Generator,
    ) -> Scene:  # fmt: skip
        """Looks at one batch: five gradients, two more a sample, two gradient graphs, five losses in float64."""
        loss, here = _at(objective, params)
        near = [jitter(params, rounding, generator) for _ in range(_JITTERS)]
        jittered = [_at(objective, p) for p in near]
        changes = tuple(value - loss for value, _ in jittered)
        slack = LIMIT * (rounding * abs(loss) + root_mean_square(changes))
        coarse = Fine(objective, params, loss, changes, rounding)
        fine = _in_double(objective, params, generator) if rounding > unit(torch.float64) else None
        # A model may compute in a precision of its own whatever it is given.
        fine = fine if fine is not None and fine.rounding < rounding else coarse
        same = abs(fine.loss - loss) <= slack
        tolerance = LIMIT * fine.noise / max(abs(fine.loss), 1e-300)
        singles = separate(fine.objective, fine.params, fine.loss, tolerance, samples)
        cut = [objective.on(single.batch) for single in singles]
        alone = [[_at(single, p)[1] for single in cut] for p in (params, near[0])] + [[]] * (_JITTERS - 1)
        at_all = ((params, here), *((p, gradient) for p, (_, gradient) in zip(near, jittered, strict=True)))
        points = tuple(_stacked(p, [first, *rest]) for (p, first), rest in zip(at_all, alone, strict=True))
        graphs, refusal = None, ""
        if hessian:
            try:
                graphs = gradient_graph(objective, params), gradient_graph(objective, near[0])
                graphs[0].product(params)  # some operations refuse only here
            except RuntimeError as error:
                graphs, refusal = None, f"no second derivative here: {str(error).splitlines()[0]}"
        return cls(objective, params, loss, changes, points, len(cut), fine, same, graphs, refusal, rounding)

    @cached_property
    def elsewhere(self) -> tuple[Gradients, ...]:
        """The gradient at parameters moved by a tenth of their size, and a rounding away from them.

        What holds there holds all around.
        """
        generator = torch.Generator().manual_seed(0)
        moved = {}
        for name, p in self.params.items():
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.device)
            wide = p.detach().double()
            # With a least size, so that a tensor of zeros moves too.
            moved[name] = (wide + 0.1 * (wide.square().mean().sqrt() + 1e-3) * noise).to(p.dtype)
        places = [moved, *(jitter(moved, self.rounding, generator) for _ in range(_JITTERS))]
        return tuple(_stacked(p, [_at(self.objective, p)[1]]) for p in places)


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


def _at(objective: Objective, params: Mapping[str, Tensor]) -> tuple[float, Mapping[str, Tensor]]:
    loss, gradient = objective.gradient(params)
    return float(loss), gradient


def _stacked(params: Mapping[str, Tensor], gradients: Sequence[Mapping[str, Tensor]]) -> Gradients:
    return Gradients(params, {name: torch.stack([g[name] for g in gradients]) for name in params})
