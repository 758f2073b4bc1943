"""``check_symmetries``: every constraint that symmetries put on loss, gradient and Hessian, on given batches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuralmechanics.symmetry import check_measures as measures
from neuralmechanics.symmetry.check_measures import Point, Reading
from neuralmechanics.symmetry.check_norm_eps import norm_eps_residual
from neuralmechanics.symmetry.check_objective import LossFunction, Objective, trainable_parameters
from neuralmechanics.symmetry.check_orbits import draw_weights, slope
from neuralmechanics.symmetry.check_report import CheckReport, FamilyCheck
from neuralmechanics.symmetry.check_rounding import coarsest_dtype, jitter, unit
from neuralmechanics.symmetry.check_samples import separate
from neuralmechanics.symmetry.check_verdicts import LIMIT, Explanation, judge_family
from neuralmechanics.symmetry.curvature import GradientGraph, gradient_graph
from neuralmechanics.symmetry.family import Family

__all__ = ["check_symmetries"]

_JITTERS = 4  # points a rounding away, from which the noise of every residual is read
_DRAWS = 2  # random weightings of each family's generators
_SLOPE_TIME = 1e-2


@dataclass(frozen=True, eq=False)
class _Scene:
    """One batch, looked at from θ and from points a rounding away; nothing here depends on a family."""

    objective: Objective
    here: Point
    jittered: tuple[Point, ...]
    samples: tuple[tuple[Point, tuple[Point, ...]], ...]
    graphs: tuple[GradientGraph, GradientGraph] | None
    refusal: str


def check_symmetries(
    symmetries: Sequence[Family],
    model: nn.Module,
    loss_fn: LossFunction | None,
    batches: Sequence[Any],
    *,
    hessian: bool = True,
    samples: int = 8,
    seed: int = 0,
) -> CheckReport:
    """Loss invariance, gradient, Hessian and noise constraints of every family, relative to rounding.

    - invariance: L(ψ(θ, a)) = L(θ) for finite a;
    - gradient: ⟨g, ξ⟩ = 0; noise: the same for the gradients of up to ``samples`` single samples where the loss is a
      mean or sum over them, else for each batch;
    - hessian: Hξ + (∂ξ/∂θ)ᵀ g = 0, and along the orbit ξᵀHξ + ⟨g, ∂²ψ/∂a²⟩ = 0.

    Each family is tested through random weightings of all its generators: two losses and two Hessian products a
    batch, whatever the number of charges. Gradients are shared by all families. The model, its buffers, its ``.grad``
    and the random state stay as they are, and random layers draw the same numbers everywhere.

    Raises ValueError where ``batches`` is empty or lacks a family's parameter, TypeError where the loss is no tensor.
    Source: Kunin et al. 2021, section 3 and appendix A.
    """
    if not isinstance(batches, Sequence) or not len(batches):
        raise ValueError("batches must be a list with at least one batch, such as [batch]; each is given to loss_fn")
    params = trainable_parameters(model)
    _require(symmetries, params)
    generator = torch.Generator().manual_seed(seed)
    dtype = _working_dtype(Objective(model, loss_fn, batches[0], seed), params)
    scenes = [
        _scene(Objective(model, loss_fn, batch, seed + k), params, unit(dtype), hessian, samples, generator)
        for k, batch in enumerate(batches)
    ]
    checks = tuple(_check(family, scenes, unit(dtype), generator) for family in symmetries)
    per_sample = all(scene.samples for scene in scenes)
    notes = tuple(dict.fromkeys(s.refusal for s in scenes if s.refusal))
    name = str(dtype).removeprefix("torch.")
    return CheckReport(checks, name, unit(dtype), len(batches), "per sample" if per_sample else "per batch", notes)


def _require(symmetries: Sequence[Family], params: Mapping[str, Tensor]) -> None:
    for family in symmetries:
        missing = [name for name in family.parameters if name not in params]
        if missing:
            raise ValueError(
                f"family {family.name!r} moves {missing[0]!r}, which is no trainable parameter of the model; "
                "pass the model that the symmetries were found in"
            )


def _working_dtype(objective: Objective, params: Mapping[str, Tensor]) -> torch.dtype:
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    return coarsest_dtype(objective(leaves), leaves)


def _scene(
    objective: Objective, params: Mapping[str, Tensor], rounding: float, hessian: bool, samples: int,
    generator: torch.Generator,
) -> _Scene:  # fmt: skip
    here = _point(objective, params)
    near = [jitter(params, rounding, generator) for _ in range(_JITTERS)]
    jittered = tuple(_point(objective, p) for p in near)
    noise = math.sqrt(sum((p.loss - here.loss) ** 2 for p in jittered) / len(jittered))
    tolerance = LIMIT * (rounding + noise / max(abs(here.loss), 1e-300))
    singles = separate(objective, params, here.loss, tolerance, samples) if samples else []
    pairs = tuple((_point(single, params), (_point(single, near[0]),)) for single in singles)
    graphs, refusal = None, ""
    if hessian:
        try:
            graphs = gradient_graph(objective, params), gradient_graph(objective, near[0])
        except (RuntimeError, NotImplementedError) as error:
            refusal = f"no Hessian: {str(error).splitlines()[0]}"
    return _Scene(objective, here, jittered, pairs, graphs, refusal)


def _point(objective: Objective, params: Mapping[str, Tensor]) -> Point:
    loss, gradient = objective.gradient(params)
    return Point(params, float(loss), gradient)


def _check(family: Family, scenes: Sequence[_Scene], rounding: float, generator: torch.Generator) -> FamilyCheck:
    read: dict[str, list[Reading]] = {"invariance": [], "gradient": [], "hessian": [], "curvature": [], "noise": []}
    explanations = []
    for scene in scenes:
        for draw in range(_DRAWS):
            weights = draw_weights(family, generator)
            read["invariance"].append(
                measures.invariance_reading(scene.objective, family, scene.here, scene.jittered, weights)
            )
            gradient = measures.gradient_reading(family, scene.here, scene.jittered, weights)
            read["gradient"].append(gradient)
            read["noise"] += [measures.gradient_reading(family, one, near, weights) for one, near in scene.samples]
            if draw == 0 and scene.graphs is not None:
                vector, along = measures.hessian_readings(family, *scene.graphs, weights)
                read["hessian"].append(vector)
                read["curvature"].append(along)
            if draw == 0 and family.broken_by:
                explanations.append(_explain(family, scene, gradient, weights, rounding))
    if not read["noise"]:
        read["noise"] = read["gradient"]
    pooled = {name: measures.pool(readings, rounding) for name, readings in read.items()}
    verdict, reason = judge_family(family, pooled, tuple(explanations))
    worst = max(explanations, key=lambda e: abs(e.measured - e.slope), default=Explanation(*[math.nan] * 4))
    return FamilyCheck(
        family.name, family.kind, family.size, verdict, reason, **pooled, slope=worst.slope, predicted=worst.predicted
    )


def _explain(family: Family, scene: _Scene, gradient: Reading, weights: Tensor, rounding: float) -> Explanation:
    """Slope of the loss along the orbit and the norms' formula, in float64 where the model runs in it."""
    params, objective = scene.here.params, scene.objective
    noise = math.sqrt(sum(c * c for c in gradient.changes) / len(gradient.changes))
    slack = LIMIT * (rounding * gradient.spread + noise)
    loss_noise = math.sqrt(sum((p.loss - scene.here.loss) ** 2 for p in scene.jittered) / len(scene.jittered))
    time, fine = 0.25, rounding
    wide = {name: p.double() for name, p in params.items()}
    try:
        double = objective.in_double()
        leaves = {name: p.requires_grad_() for name, p in wide.items()}
        value = double(leaves)
        # Random layers draw other numbers in another precision: then the two losses are not the same function.
        if abs(float(value.detach()) - scene.here.loss) <= LIMIT * (loss_noise + rounding * abs(scene.here.loss)):
            fine = unit(coarsest_dtype(value, leaves))
            objective, params = double, {name: p.detach() for name, p in wide.items()}
            loss_noise *= fine / rounding
    except RuntimeError:
        pass  # a model with a precision of its own: stay in it
    if fine < 1e-10:
        time = _SLOPE_TIME
    slack += LIMIT * (loss_noise + fine * abs(scene.here.loss)) / time
    measured_slope = slope(objective, family, params, weights, time)
    return Explanation(gradient.value, measured_slope, norm_eps_residual(objective, family, params, weights), slack)
