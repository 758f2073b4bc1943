"""The captured graph run beside the real model: values and gradients must agree, or nothing is claimed of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from neuralmechanics.functional.as_found.tensors import is_transient
from neuralmechanics.functional.calling import Whole
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.lowering.capture.tracing import SEED, seeded
from neuralmechanics.symmetry.lowering.replay.difference import difference
from neuralmechanics.symmetry.lowering.replay.evaluation import (
    Evaluation,
    evaluated,
    leaves_of,
    model_evaluated,
    run_captured,
)
from neuralmechanics.symmetry.lowering.replay.graph_run import Conversion, GraphError
from neuralmechanics.symmetry.lowering.replay.points import (
    MOVED,
    Point,
    point_of,
    shrunk,
)

__all__ = ["DOUBLE", "TOLERANCES", "Replayed", "own_type", "replayed"]

DOUBLE = 1 << 20  # tensor entries up to which everything is run in float64 at once
DIFFERENTIATED = 1 << 29  # parameters up to which gradients are compared
STEPS = (0.1, 0.01, 0.001)  # to another point in parameter space; a smaller one may stay on the branch that was traced
TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.03}
CAST = 1e-4  # in float64, where the model casts to a narrower type of its own accord
DRAWS = 32  # runs with other random numbers, where the model draws some that may decide a branch
SIDES = (16, 32)  # of images that are enough for a first comparison, if the model takes them


@dataclass(frozen=True)
class Replayed:
    """What came of it: nothing against the graph, or the first difference; and why it could not be run at all."""

    difference: str = ""
    not_run: str = ""


class _NotRunError(Exception):
    """The model itself does not run there."""


def replayed(captured: Captured, whole: Whole, batch: Any, *, gradients: bool = True) -> Replayed:
    """Runs graph and model on the batch, at another point in parameter space, and on other data where that is fair.

    Small models are compared in float64; others in their own precision, and in float64 if that leaves a doubt. Large
    images are cut, and many samples left out, as long as nothing differs. A graph traced with real tensors holds for
    the branch taken: it is compared on the given data, and at the farthest other point that stays on the branch.
    Without ``gradients`` the forward pass alone is compared, for tests of the backward pass.
    """
    # Held as a constant, a parameter would move in the model and stand still in the graph.
    constant = _parameter_as_constant(captured, whole)
    if constant and gradients:
        return Replayed(f"the graph holds {constant} as a constant")
    point = point_of(captured, whole, batch)
    if isinstance(point, str):
        return Replayed(not_run=point)
    if captured.route == "export" and point.size > DOUBLE and _agrees_in_small(captured, whole, point, gradients):
        return Replayed()
    return _in_some_precision(captured, whole, point, gradients)


def _parameter_as_constant(captured: Captured, whole: Whole) -> str:
    """The first parameter whose memory a constant of the graph shares; empty where none does."""
    memory = {_memory(p): name.removeprefix("model.") for name, p in whole.named_parameters() if p.requires_grad}
    held = [source.value for source in captured.sources.values() if source.kind == "constant"]
    named = {str(node.target) for node in captured.graph.nodes if node.op == "get_attr"}
    held += [value for name in named if isinstance(value := attrgetter(name)(captured.module), Tensor)]
    tensors = [value for value in held if isinstance(value, Tensor)]
    if any(is_transient(tensor) for tensor in tensors):
        return "a tensor of a transform that has ended"
    return next((memory[_memory(tensor)] for tensor in tensors if _memory(tensor) in memory), "")


def _memory(tensor: Tensor) -> Any:
    """What tells the memory of tensors apart; those without any are all different."""
    pointer = 0 if tensor.is_meta or tensor.layout != torch.strided else tensor.untyped_storage().data_ptr()
    return pointer or tensor


def _agrees_in_small(captured: Captured, whole: Whole, point: Point, gradients: bool) -> bool:
    """Whether graph and model take a few small images, and agree on them."""
    for side in SIDES:
        small = shrunk(point.batch, side)
        if small is None:
            return False
        # The library behind large convolutions takes longer to rearrange weights than to multiply a few entries.
        with torch.backends.mkldnn.flags(enabled=False):
            if _in_some_precision(captured, whole, replace(point, batch=small), gradients) == Replayed():
                return True
    return False


def _in_some_precision(captured: Captured, whole: Whole, point: Point, gradients: bool) -> Replayed:
    if point.size <= DOUBLE:
        wide = _at_several_points(captured, whole, point.double(), gradients, wide=True)
        if not wide.not_run:
            return wide
    own = _at_several_points(captured, whole, point, gradients, wide=False)
    if own.difference and point.size > DOUBLE:
        wide = _at_several_points(captured, whole, point.double(), gradients, wide=True)
        return own if wide.not_run else wide
    return own


def _at_several_points(captured: Captured, whole: Whole, point: Point, gradients: bool, *, wide: bool) -> Replayed:
    traced = captured.route != "export"
    count = sum(p.numel() for p in point.params.values())
    gradients = gradients and count <= DIFFERENTIATED
    try:
        # Gradients cost most: those of an exported graph are compared at the moved point alone, if there is one.
        found, drew = _compared(captured, whole, point, gradients=gradients and (traced or count > MOVED), wide=wide)
        if not found and (drew - {"torch"} or (drew and traced)):  # a branch may hang on what was drawn
            seeds = range(SEED + 2, SEED + DRAWS)
            others = (_compared(captured, whole, point, seed, gradients=False, wide=wide)[0] for seed in seeds)
            found = next(filter(None, others), "")
        if found or count > MOVED:
            return Replayed(found)
        for step in STEPS if traced else STEPS[:1]:
            found = _elsewhere(captured, whole, point.moved(step), gradients=gradients, wide=wide)
            if not found:
                break
    except _NotRunError as error:
        return Replayed(not_run=str(error))
    return Replayed(found)


def _elsewhere(captured: Captured, whole: Whole, point: Point, *, gradients: bool, wide: bool) -> str:
    """At another point, and there on other data if the graph holds for all data and the model takes them."""
    other = point.on_other_data() if captured.route == "export" else None
    if other is not None:
        try:
            return _compared(captured, whole, other, SEED + 1, gradients=gradients, wide=wide)[0]
        except _NotRunError:
            pass
    return _compared(captured, whole, point, SEED + 1, gradients=gradients, wide=wide)[0]


def _compared(
    captured: Captured, whole: Whole, point: Point, seed: int = SEED, *, gradients: bool, wide: bool
) -> tuple[str, frozenset[str]]:
    """The first difference between model and graph at one point, empty where they agree; what the model drew."""
    differentiable = gradients or captured.route != "export"  # an exported graph differentiates nothing inside
    try:
        with seeded(seed), torch.set_grad_enabled(differentiable):
            model = model_evaluated(whole, point, gradients=gradients, wide=wide)
    except Exception as error:
        if gradients:  # a model may have none, as operations without a backward pass do: its values are compared
            return _compared(captured, whole, point, seed, gradients=False, wide=wide)
        text = str(error).strip().splitlines() or [""]
        raise _NotRunError(f"{type(whole.model).__name__} raises {type(error).__name__}: {text[0]}") from error
    if model.written and gradients:
        return (
            f"the model writes into {model.written} when it runs, and differentiates by what it has written",
            model.drew,
        )
    own = own_type(whole)
    if wide and own is not None and not all(value.isfinite().all() for value in model.values):
        raise _NotRunError("not in float64: a model may count on the largest number of its own type")
    conversion = Conversion(own if wide else None)
    try:
        with seeded(seed), torch.set_grad_enabled(differentiable):
            params = leaves_of(point.params)
            graph = evaluated(run_captured(captured, whole, point, params, conversion), params, gradients)
    except GraphError as error:
        return str(error), model.drew
    except RuntimeError as error:
        return f"the captured graph has no gradient: {(str(error).splitlines() or [''])[0]}", model.drew
    return difference(model, graph, _tolerance(model, conversion), point.params), model.drew


def own_type(whole: Whole) -> torch.dtype | None:
    """The precision of the model's parameters, if it is narrower than float64."""
    kinds = {p.dtype for p in whole.parameters() if p.is_floating_point()}
    return max(kinds, key=lambda kind: kind.itemsize) if kinds and torch.float64 not in kinds else None


def _tolerance(model: Evaluation, conversion: Conversion) -> float:
    kinds = [value.dtype for value in (*model.values, *model.gradients.values()) if value.dtype in TOLERANCES]
    rounding = max((TOLERANCES[kind] for kind in kinds), default=TOLERANCES[torch.float64])
    return max(rounding, CAST) if conversion.cast else rounding
