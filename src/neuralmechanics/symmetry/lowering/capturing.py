"""The model's computation as one graph of ATen operations, by the first route whose graph does what the model does."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from io import StringIO
from typing import Any

import torch
from torch import nn

from neuralmechanics.functional.as_found import left_as_found, require_built
from neuralmechanics.functional.calling import LossFunction, NoLossError, Whole, require_separate, unwrapped
from neuralmechanics.symmetry.lowering.capture.captured import Captured, RouteError, Source, first_line
from neuralmechanics.symmetry.lowering.capture.exporting import exported, exported_with_checkpoints
from neuralmechanics.symmetry.lowering.capture.in_place import written_placeholders
from neuralmechanics.symmetry.lowering.capture.regions import Operation
from neuralmechanics.symmetry.lowering.capture.repeated import merge_repeated
from neuralmechanics.symmetry.lowering.capture.tracing import (
    traced,
    traced_below_autograd,
    traced_with_outside_functions,
)
from neuralmechanics.symmetry.lowering.inlining import inlined
from neuralmechanics.symmetry.lowering.replay import is_large, replayed
from neuralmechanics.symmetry.lowering.rules.gradients import NO_GRADIENT

__all__ = ["capture"]

_LARGEST = 1 << 16  # entries of a buffer of which the values are kept

Route = Callable[[Whole, Any, Operation], Captured]

ROUTES: dict[str, Route] = {
    "export": exported,
    "export of checkpoints": exported_with_checkpoints,
    "tracing": traced,
    "tracing below autograd": traced_below_autograd,
    "tracing around functions outside torch": traced_with_outside_functions,
}

_EXPORTS = (exported, exported_with_checkpoints)


def capture(model: nn.Module, batch: Any, loss_fn: LossFunction | None = None, *, gradients: bool = True) -> Captured:
    """Captures ``loss_fn(model, batch)`` (or the model's output) as a graph that was seen to do the same.

    ``torch.export`` in non-strict mode first; then tracing with the real tensors, valid for the branch taken. After
    each the graph is run beside the model: where values or gradients differ, the next route is tried. With
    ``gradients=False`` values alone are compared: what is claimed is then claimed of the forward pass.
    Raises ``ValueError`` when the model cannot run on the batch, or when no route gives a graph that does the same.
    """
    if loss_fn is not None and not callable(loss_fn):
        raise TypeError(f"loss_fn is a {type(loss_fn).__name__}; give a function loss_fn(model, batch) of one number")
    model = unwrapped(model)
    _refuse_sharded(model)
    require_built(model)
    require_separate(model)
    whole = Whole(model, loss_fn)
    known = frozenset(name for name, _ in model.named_parameters(remove_duplicate=False))
    reasons: dict[str, str] = {}
    for name, route in ROUTES.items():
        # It differs from the first export in gradients alone, and can mend nothing else.
        if name == "export of checkpoints" and "gradient" not in reasons.get("export", ""):
            continue
        try:
            # Exports run on fake tensors: the parameters stay as they are, and need not be copied to be put back.
            with left_as_found(whole, batch, parameters=route not in _EXPORTS), _silent():
                captured = route(whole, batch, NO_GRADIENT)
        except RouteError as error:  # whatever one route cannot do, the next one may
            reasons[name] = str(error)
            continue
        _require_known(captured, known)
        # Before the replay, so that what is read in the end is what was run beside the model.
        captured = merge_repeated(inlined(captured))
        with left_as_found(whole, batch, parameters=not is_large(whole)), _silent():
            found = replayed(captured, whole, batch, gradients=gradients)
        if not found.difference:
            sources = _with_values(captured, whole)
            known_by = replace(captured, whole=whole, batch=batch)
            return replace(known_by, replayed=found.not_run, results=(), outside=(), sources=sources)
        reasons[name] = found.difference
    _require_running(whole, batch)
    raise ValueError(_refusal(whole, reasons))


def _with_values(captured: Captured, whole: Whole) -> dict[str, Source]:
    """The sources of placeholders, small buffers and frozen parameters that nothing writes into with what they hold."""
    named = dict(whole.named_parameters(remove_duplicate=False)) | dict(whole.named_buffers(remove_duplicate=False))
    written = captured.written | written_placeholders(captured.graph)
    out = dict(captured.sources)
    for place, source in captured.sources.items():
        held = named.get(source.name)
        # What a run writes into (running statistics) holds another value in the next one.
        fixed = source.kind in ("buffer", "parameter") and place not in captured.parameters and place not in written
        if fixed and held is not None and held.numel() <= _LARGEST:
            out[place] = replace(source, value=held.detach().clone())
    return out


def _require_known(captured: Captured, known: frozenset[str]) -> None:
    """Raises ValueError where a run has made parameters: they are gone again, so nothing can be said of them."""
    made = [name for name in captured.shapes if name not in known]
    if made:
        raise ValueError(
            f"the model makes parameter {made[0]!r} when it runs; run it once on a batch before, so that all its "
            "parameters exist"
        )


def _require_running(whole: Whole, batch: Any) -> None:
    """Raises ValueError with the model's own error where it does not run on the batch."""
    try:
        with left_as_found(whole, batch), torch.enable_grad():
            whole(batch)
    except NoLossError:
        raise
    except Exception as error:
        raise ValueError(
            f"{type(whole.model).__name__} does not run on the given batch: {first_line(error)}; pass a batch that the "
            "model (and loss_fn) accept"
        ) from error


def _refusal(whole: Whole, reasons: dict[str, str]) -> str:
    """Why there is no graph: what each route did otherwise than the model."""
    name = type(whole.model).__name__
    causes = "; ".join(f"by {route}: {reason}" for route, reason in reasons.items())
    return (
        f"{name} runs on the given batch, but no captured graph does the same, so nothing can be claimed of it "
        f"({causes}); write the part that torch does not see in torch operations, or use probe_symmetries, which needs "
        "no graph"
    )


def _refuse_sharded(model: nn.Module) -> None:
    """A sharded model computes with pieces of its parameters, and its first run prepares it for training."""
    for name, parameter in model.named_parameters():
        kind = type(parameter.data if type(parameter) is nn.Parameter else parameter).__name__
        if kind in ("DTensor", "FlatParameter", "ShardedTensor"):
            raise ValueError(
                f"{type(model).__name__} is sharded ({name} is a {kind}), and its graph cannot be captured; find the "
                "symmetries of the model before it is sharded, on the meta device if it is too large: names and shapes "
                "are the same"
            )


@contextmanager
def _silent() -> Iterator[None]:
    """Gradients enabled, and no warnings and logs: what fails, another route may mend."""
    with warnings.catch_warnings(), _quiet(), torch.enable_grad():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what torch logs and prints about a failure that the next route may still mend.

    A failed export prints the graph that it had so far; what the model itself prints to stdout passes.
    """
    loggers = [
        logging.getLogger(name) for name in list(logging.root.manager.loggerDict) if name.split(".")[0] == "torch"
    ]
    states = [(logger, logger.disabled) for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        with redirect_stderr(StringIO()):
            yield
    finally:
        for logger, disabled in states:
            logger.disabled = disabled
