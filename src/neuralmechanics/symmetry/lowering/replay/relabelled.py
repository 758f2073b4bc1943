"""The captured graph run with other parameters of which a claim says that they give the same outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from neuralmechanics.functional.calling import Whole
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.lowering.capture.tracing import SEED, seeded
from neuralmechanics.symmetry.lowering.replay.comparing import DOUBLE, own_type
from neuralmechanics.symmetry.lowering.replay.evaluation import run_captured
from neuralmechanics.symmetry.lowering.replay.graph_run import Conversion, GraphError
from neuralmechanics.symmetry.lowering.replay.points import MOVED, Point, moved, point_of

__all__ = ["Change", "Claim", "left_unchanged"]

Change = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]  # of tensors by the model's own names
Claim = tuple[Collection[str], Sequence[Change]]  # tensors, and changes of them that are to leave the outputs
_ROUNDING = {torch.float64: 1e-8, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.03}
_STEP = 0.1  # to a random point, of each tensor's size
_PREFIX = "model."


def left_unchanged(captured: Captured, claims: Sequence[Claim]) -> list[bool] | None:
    """For each claim, whether no change changes an output, at a random point and there on other data, too.

    In float64 where the model is small, in its own precision otherwise, and in float64 again if that differs. What does
    not run says that it does not hold; None is for models on the meta device that are too large to be run.
    """
    whole = captured.whole
    if whole is None or not claims:
        return [False] * len(claims)
    point = point_of(captured, whole, captured.batch)  # once for all: it looks through everything that the model holds
    return None if isinstance(point, str) else [_holds(captured, whole, point, *claim) for claim in claims]


def _holds(captured: Captured, whole: Whole, point: Point, names: Collection[str], changes: Sequence[Change]) -> bool:
    with torch.no_grad():
        if point.size > DOUBLE:
            own = _in_precision(captured, whole, point, names, changes, wide=False)
            # Two scores that differ may be one number there.
            return own or bool(_in_precision(captured, whole, point, names, changes, wide=True))
        found = _in_precision(captured, whole, point, names, changes, wide=True)
        return bool(_in_precision(captured, whole, point, names, changes, wide=False)) if found is None else found


def _in_precision(
    captured: Captured, whole: Whole, point: Point, names: Collection[str], changes: Sequence[Change], *, wide: bool
) -> bool | None:
    """Whether all outputs stay; None where the graph does not run, or in float64 gives no numbers."""
    held = False
    for place in _points(point.double() if wide else point, names):
        try:
            before = _outputs(captured, whole, place, wide)
            if wide and not all(bool(x.isfinite().all()) for x in before if isinstance(x, Tensor)):
                return None  # it may count on the largest number of its own type
            if not all(_agree(before, _outputs(captured, whole, _changed(place, c), wide)) for c in changes):
                return False
        except GraphError:
            if not held:
                return None
            continue  # other data may be such as the model does not take
        held = True
    return held


def _points(point: Point, names: Collection[str]) -> Iterator[Point]:
    """At random parameters, the named ones in any case, on the given data and on others."""
    here = point.moved(_STEP) if sum(p.numel() for p in point.params.values()) <= MOVED else point
    generator = torch.Generator().manual_seed(SEED + 1)
    drawn = {
        name: moved(value, _STEP, generator)
        for name in sorted(_PREFIX + name for name in names)
        if (value := here.params.get(name, here.others.get(name))) is not None and value.is_floating_point()
    }
    here = _with(here, drawn)
    yield here
    other = here.on_other_data()
    if other is not None:
        yield other


def _with(point: Point, tensors: Mapping[str, Tensor]) -> Point:
    return replace(
        point,
        params={name: tensors.get(name, value) for name, value in point.params.items()},
        others={name: tensors.get(name, value) for name, value in point.others.items()},
    )


def _changed(point: Point, change: Change) -> Point:
    own = {name.removeprefix(_PREFIX): value.detach() for name, value in {**point.others, **point.params}.items()}
    return _with(point, {_PREFIX + name: value for name, value in change(own).items()})


def _outputs(captured: Captured, whole: Whole, point: Point, wide: bool) -> list[Any]:
    conversion = Conversion(own_type(whole) if wide else None)
    known = replace(captured, results=captured.outputs)
    with seeded():
        return run_captured(known, whole, point, point.params, conversion)


def _agree(before: Sequence[Any], after: Sequence[Any]) -> bool:
    """Whether all outputs are the same up to rounding, at least one of them with numbers that say so."""
    if not any(isinstance(x, Tensor) and bool(x.isfinite().any()) for x in before):
        return False
    return all(
        _same(x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) else x == y
        for x, y in zip(before, after, strict=True)
    )


def _same(x: Tensor, y: Tensor) -> bool:
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    if not x.is_floating_point() and not x.is_complex():
        return torch.equal(x, y)
    kind = x.real.dtype if x.is_complex() else x.dtype
    finite = x.isfinite()
    if not torch.equal(finite, y.isfinite()) or not torch.allclose(x[~finite], y[~finite], equal_nan=True):
        return False
    numbers, others = x[finite], y[finite]
    if not numbers.numel():
        return True
    size = float(torch.maximum(numbers.abs().max(), others.abs().max()))
    return float((numbers - others).abs().max()) <= _ROUNDING.get(kind, _ROUNDING[torch.float64]) * size
