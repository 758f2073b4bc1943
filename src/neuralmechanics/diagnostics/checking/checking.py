"""``check_symmetries``: every constraint that symmetries put on loss, gradient and Hessian, on given batches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neuralmechanics.diagnostics.checking import readings as measures
from neuralmechanics.diagnostics.checking.norm_eps import norm_eps_residual
from neuralmechanics.diagnostics.checking.orbits import slope
from neuralmechanics.diagnostics.checking.readings import Measure, Reading
from neuralmechanics.diagnostics.checking.report import CheckReport, FamilyCheck
from neuralmechanics.diagnostics.checking.scene import Fine, Scene, root_mean_square, working_dtype
from neuralmechanics.diagnostics.checking.verdicts import LIMIT, Explanation, judge_family, only_second
from neuralmechanics.functional.as_found import left_as_found
from neuralmechanics.functional.precision import unit
from neuralmechanics.functional.pure_loss import LossFunction, Objective, trainable_parameters
from neuralmechanics.symmetry.families.family import Family

__all__ = ["check_symmetries"]

_DRAWS = 2  # random weightings of each family's generators


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

    - invariance: L(ψ(θ, a)) = L(θ) for finite a, in float64 where the model runs in it, so that a false claim shows
      in any precision;
    - gradient: ⟨g, ξ⟩ = 0; noise: the same for the gradients of up to ``samples`` single samples where the loss is a
      mean or sum over them, else for each batch;
    - hessian: Hξ + (∂ξ/∂θ)ᵀ g = 0, and along the orbit ξᵀHξ + ⟨g, ∂²ψ/∂a²⟩ = 0.

    Each family is tested through random weightings of all its generators: two losses and three Hessian products a
    batch, whatever the number of charges. Gradients are shared by all families. The model and all its state
    are left as they were found, and random layers draw the same numbers everywhere.

    Raises ValueError where ``batches`` is empty or lacks a family's parameter, TypeError where the loss is no tensor.
    Source: Kunin et al. 2021, section 3 and appendix A.
    """
    if not isinstance(batches, Sequence) or not len(batches):
        raise ValueError("batches must be a list with at least one batch, such as [batch]; each is given to loss_fn")
    with left_as_found(model, loss_fn, batches):
        params = trainable_parameters(model)
        _require(symmetries, params)
        generator = torch.Generator().manual_seed(seed)
        dtype = working_dtype(Objective(model, loss_fn, batches[0], seed), params)
        scenes = [
            Scene.of(Objective(model, loss_fn, batch, seed + k), params, unit(dtype), hessian, samples, generator)
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


def _check(family: Family, scenes: Sequence[Scene], rounding: float, generator: torch.Generator) -> FamilyCheck:
    read: dict[str, list[Reading]] = {"invariance": [], "gradient": [], "hessian": [], "curvature": [], "noise": []}
    explanations = []
    for scene in scenes:
        for draw in range(_DRAWS):
            weights = family.action.random_weights(generator)
            fine = scene.fine
            read["invariance"].append(
                measures.invariance_reading(fine.objective, family, fine.params, fine.loss, fine.changes, weights)
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
    units = dict.fromkeys(read, rounding) | {"invariance": max(scene.fine.rounding for scene in scenes)}
    pooled = {name: measures.pool(readings, units[name]) for name, readings in read.items()}
    elsewhere: Measure | None = None
    suspects: tuple[str, ...] = ()
    if only_second(family, pooled):
        elsewhere = measures.pool([_elsewhere(family, scene, generator) for scene in scenes], rounding)
        suspects = tuple(dict.fromkeys(n for s in scenes for graph in s.graphs or () for n in graph.handwritten))
    verdict, reason = judge_family(family, pooled, tuple(explanations), elsewhere, suspects)
    worst = max(explanations, key=lambda e: abs(e.measured - e.slope), default=Explanation(*[math.nan] * 5))
    return FamilyCheck(
        family.name, family.kind, family.size, verdict, reason, **pooled, slope=worst.slope, predicted=worst.predicted
    )


def _elsewhere(family: Family, scene: Scene, generator: torch.Generator) -> Reading:
    there, near = scene.elsewhere
    return measures.gradient_reading(family, there, near, family.action.random_weights(generator))


def _explain(family: Family, scene: Scene, gradient: Reading, weights: Tensor, rounding: float) -> Explanation:
    """Slope of the loss along the orbit and the norms' formula, in float64 where the model runs in it."""
    fine = scene.fine
    if not scene.same_function:
        changes = tuple(p.loss - scene.here.loss for p in scene.jittered)
        fine = Fine(scene.objective, scene.here.params, scene.here.loss, changes, rounding)
    time = 0.01 if fine.rounding < 1e-10 else 0.25
    slack = LIMIT * (rounding * gradient.spread + root_mean_square(gradient.changes) + fine.noise / time)
    measured_slope = slope(fine.objective, family, fine.params, weights, time)
    predicted = norm_eps_residual(fine.objective, family, fine.params, weights)
    return Explanation(gradient.value, gradient.size, measured_slope, predicted, slack)
