"""``check_symmetries``: every constraint that symmetries put on loss, gradient and Hessian, on given batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from neuralmechanics.diagnostics.checking.explaining import Explained, Weighted, explained
from neuralmechanics.diagnostics.checking.halving import by_halves
from neuralmechanics.diagnostics.checking.readings import (
    Measure,
    Reading,
    bends_nothing,
    gradient_readings,
    hessian_readings,
    hessian_share,
    invariance_reading,
    pool,
)  # fmt: skip
from neuralmechanics.diagnostics.checking.report import CheckReport, FamilyCheck
from neuralmechanics.diagnostics.checking.scene import Scene, working_dtype
from neuralmechanics.diagnostics.checking.verdicts import LIMIT, SMALL, judge_family, judge_untested, only_second
from neuralmechanics.functional.as_found import left_as_found
from neuralmechanics.functional.batches import require_batches, running_on
from neuralmechanics.functional.function_module import PlainFunction, as_module
from neuralmechanics.functional.precision import unit
from neuralmechanics.functional.pure_loss import LossFunction, Objective, trainable_parameters
from neuralmechanics.symmetry.families.family import Family

__all__ = ["check_symmetries"]

T = TypeVar("T")

_DRAWS = 2  # random weightings of each family's generators


def check_symmetries(
    symmetries: Sequence[Family],
    model: nn.Module | PlainFunction,
    loss_fn: LossFunction | None,
    batches: Sequence[Any],
    *,
    hessian: bool = True,
    samples: int = 8,
    seed: int = 0,
    params: Mapping[str, Tensor] | None = None,
) -> CheckReport:
    """Loss invariance, gradient, Hessian and noise constraints of every family, relative to rounding.

    - invariance: L(ψ(θ, a)) = L(θ) for finite a, in float64 where the model runs in it, so that a false claim shows
      in any precision;
    - gradient: ⟨g, ξ⟩ = 0; noise: the same for the gradients of up to ``samples`` single samples where the loss is a
      mean or sum over them, else for each batch;
    - hessian: Hξ + (∂ξ/∂θ)ᵀ g = 0, and along the orbit ξᵀHξ + ⟨g, ∂²ψ/∂a²⟩ = 0.

    Each family is tested through random weightings of all its generators. Gradients are shared by all families; losses
    and Hessian products, with more than a few families, are taken for all of them together, and only where that fails
    for each half on its own: some losses and three Hessian products a batch where all is well, about log₂ n times as
    many a fault. What was measured of a set stands in the row of each member: the loss under all their transformations
    one after the other, and what the sum of their generators leaves, counted as if it were the member's alone.
    The model and all its state are left as they were found, and random layers draw the same numbers everywhere. A plain
    function ``model(params, batch)`` comes with its named tensors as ``params``.

    A family of which every term is zero on all batches, as in a dead layer, is "untested".

    Raises ValueError where ``batches`` is empty or lacks a family's parameter, or where the loss is no finite number;
    TypeError where it is no tensor.
    Source: Kunin et al. 2021, section 3 and appendix A.
    """
    require_batches(batches)
    model = as_module(model, params)
    with left_as_found(model, loss_fn, batches):
        values = trainable_parameters(model)
        _require(symmetries, values)
        generator = torch.Generator().manual_seed(seed)
        with running_on(batches):
            dtype = working_dtype(Objective(model, loss_fn, batches[0], seed), values)
        scenes = [
            Scene.of(Objective(model, loss_fn, batch, seed + k), values, unit(dtype), hessian, samples, generator)
            for k, batch in enumerate(batches)
        ]
        for k, scene in enumerate(scenes):
            if not math.isfinite(scene.loss):
                raise ValueError(
                    f"the loss of batches[{k}] is {scene.loss}, of which nothing can be told; give batches with "
                    "examples, and parameters, at which it is finite"
                )
        checks = _checks(tuple(symmetries), _weighted(symmetries, scenes, generator), unit(dtype), generator)
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


def _weighted(symmetries: Sequence[Family], scenes: Sequence[Scene], generator: torch.Generator) -> list[Weighted]:
    return [
        Weighted(scene, tuple(tuple(f.action.random_weights(generator) for f in symmetries) for _ in range(_DRAWS)))
        for scene in scenes
    ]


def _checks(
    families: Sequence[Family], weighted: Sequence[Weighted], rounding: float, generator: torch.Generator
) -> tuple[FamilyCheck, ...]:
    """One row a family: gradients of its own, losses and Hessian products of the sets that it was looked at in."""
    readings = [[_gradients(k, family, batch) for batch in weighted] for k, family in enumerate(families)]
    moved = _by_kind(families, lambda chosen: _invariance(families, weighted, chosen), _flat)
    bent = _by_kind(families, lambda chosen: _second(families, weighted, chosen, rounding), _straight)
    steep = frozenset(k for k, (_, second) in bent.items() if second["hessian"].residual > SMALL)
    explanations = explained(families, weighted, [[first[0] for first in own] for own in readings], steep, rounding)
    rows = []
    for k, family in enumerate(families):
        measures = _pooled(readings[k], rounding) | {"invariance": moved[k][1]} | bent[k][1]
        elsewhere: Measure | None = None
        suspects: tuple[str, ...] = ()
        if only_second(family, measures):
            elsewhere = pool([_elsewhere(family, batch.scene, generator) for batch in weighted], rounding)
            graphs = [graph for batch in weighted for graph in batch.scene.graphs or ()]
            suspects = tuple(dict.fromkeys(name for graph in graphs for name in graph.handwritten))
        found = explanations.get(k, Explained())
        predicted = found.worst.predicted if found.alone else math.nan
        if _nothing_there(k, family, readings[k], weighted):
            verdict, reason = judge_untested(family, measures)
        else:
            verdict, reason = judge_family(family, measures, found.explanations, elsewhere, suspects)
        name, kind, size, slope = family.name, family.kind, family.size, found.worst.slope
        rows.append(FamilyCheck(name, kind, size, verdict, reason, **measures, slope=slope, predicted=predicted))
    return tuple(rows)


def _gradients(number: int, family: Family, batch: Weighted) -> list[Reading]:
    """⟨g, ξ⟩ of the batch's gradient and of those of its samples, under the first weights and under the others."""
    # Whole batches stand first in what is returned, one a draw: `_pooled` cuts behind them.
    read = [gradient_readings(family, draw[number], batch.scene.points) for draw in batch.draws]
    return [
        *read[0][:1],
        *(r for of_draw in read[1:] for r in of_draw[:1]),
        *(r for of_draw in read for r in of_draw[1:]),
    ]


def _nothing_there(
    number: int, family: Family, readings: Sequence[Sequence[Reading]], weighted: Sequence[Weighted]
) -> bool:
    """Whether no constraint of the family had a term that is not zero, so that nothing could have shown."""
    if any(reading.size for own in readings for reading in own):
        return False
    return all(
        batch.scene.graphs is None or bends_nothing(family, batch.draws[0][number], batch.scene.graphs[0])
        for batch in weighted
    )


def _pooled(readings: Sequence[Sequence[Reading]], rounding: float) -> dict[str, Measure]:
    whole = [reading for own in readings for reading in own[:_DRAWS]]
    samples = [reading for own in readings for reading in own[_DRAWS:]]
    return {"gradient": pool(whole, rounding), "noise": pool(samples or whole, rounding)}


Held = dict[int, tuple[tuple[int, ...], T]]


def _by_kind(
    families: Sequence[Family], measure: Callable[[tuple[int, ...]], T], holds: Callable[[Family, T], bool]
) -> Held[T]:
    """Halving of the families that no constant breaks, and of those that one does: these leave more than rounding."""
    found: Held[T] = {}
    for exact in (True, False):
        members = [k for k, family in enumerate(families) if family.exact == exact]
        found |= by_halves(members, measure, lambda chosen, result: holds(families[chosen[0]], result))
    return found


def _invariance(families: Sequence[Family], weighted: Sequence[Weighted], chosen: Sequence[int]) -> Measure:
    readings = []
    accuracy = max(families[k].action.accuracy for k in chosen)
    for batch in weighted:
        fine = batch.scene.fine
        # A transformation that is integrated is as good as its integration, which then counts as rounding.
        changes = tuple(change * max(1.0, accuracy / fine.rounding) for change in fine.changes)
        for draw in batch.draws:
            drawn = [(families[k], draw[k]) for k in chosen]
            readings.append(invariance_reading(fine.objective, drawn, fine.params, fine.loss, changes))
    return pool(readings, max(batch.scene.fine.rounding for batch in weighted))


def _flat(family: Family, loss: Measure) -> bool:
    """Whether a set like this family may stay together: where a constant breaks it, finite steps decide nothing."""
    return loss.roundings <= LIMIT or (not family.exact and math.isfinite(loss.roundings))


def _second(
    families: Sequence[Family], weighted: Sequence[Weighted], chosen: Sequence[int], rounding: float
) -> dict[str, Measure]:
    """The Hessian constraint of Σ ξ, every family with terms of the same size, and its part along the orbit.

    One member that is off is off by its own residual, among terms and rounding of all, which add up as √n.
    """
    read: dict[str, list[Reading]] = {"hessian": [], "curvature": []}
    for batch in weighted:
        if batch.scene.graphs is None:
            continue
        drawn = [(families[k], batch.draws[0][k]) for k in chosen]
        if len(chosen) > 1:
            # Each by its own terms: the residual of a small family would drown in the terms of a large one.
            shares = [hessian_share(family, weights, batch.scene.graphs[0]) for family, weights in drawn]
            drawn = [
                (f, weights / share if share else weights) for (f, weights), share in zip(drawn, shares, strict=True)
            ]
        for name, reading in zip(read, hessian_readings(drawn, *batch.scene.graphs), strict=True):
            read[name].append(reading)
    return {name: pool(readings, rounding).times(math.sqrt(len(chosen))) for name, readings in read.items()}


def _straight(family: Family, second: Mapping[str, Measure]) -> bool:
    known = [m for m in second.values() if m.known]
    return all(m.roundings <= LIMIT if family.exact else m.residual <= SMALL for m in known)


def _elsewhere(family: Family, scene: Scene, generator: torch.Generator) -> Reading:
    return gradient_readings(family, family.action.random_weights(generator), scene.elsewhere)[0]
