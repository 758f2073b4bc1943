"""The check of a rewrite: the same outputs at the given and at random parameters, or the tensor that breaks it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralmechanics.functional.precision import jitter, unit
from neuralmechanics.rewrite.actions.certificate.certificate import Certificate, Comparison, RewriteError
from neuralmechanics.rewrite.actions.certificate.evaluation import Evaluation
from neuralmechanics.rewrite.plan import Change, Copy, Plan

__all__ = ["Piece", "certified"]

_EXACT, _WITH_CASTS = 1e-10, 1e-6
_ROUNDINGS = 16.0  # how many times what one rounding of every element does may come out after a rewrite
_DRAWS = 3
_CANNOT = (RuntimeError, TypeError, ValueError, NotImplementedError)


@dataclass(frozen=True, eq=False)
class Piece:
    """The changes that one symmetry proves, after those of the pieces before it."""

    family: str
    changes: tuple[Change, ...]
    requires: tuple[str, ...] = ()


State = Mapping[str, Tensor]


def certified(pieces: Sequence[Piece], plan: Plan, state: State, evaluation: Evaluation) -> Certificate:
    """The certificate of ``plan``, which is made of ``pieces``; ``RewriteError`` naming a tensor where a check fails.

    In float64, every narrower type inside the model widened, the change may be 1e-10 of the greatest output; where the
    model cannot run so, 1e-6 with its own casts. In the model's own precision: sixteen times what one rounding of every
    parameter does to the output; this at random parameters too where float64 is out of reach.
    """
    comparisons: list[Comparison] = []
    notes: list[str] = []
    draw = torch.Generator().manual_seed(0)
    moved = _moved(plan, state)
    random = _random(state, moved, draw)
    own = {"given": state}
    for point, at in (("given", state), ("random", random)):
        wide = {name: x.double() if x.is_floating_point() else x for name, x in at.items()}
        try:
            comparisons += _in_double(point, plan, wide, evaluation)
        except _CANNOT as error:
            if isinstance(error, RewriteError):
                raise
            notes.append(f"not compared in float64 at {point} parameters: {_line(error)}")
            own[point] = {name: x.to(state[name].dtype) for name, x in at.items()}
    narrow = {x.dtype for x in state.values() if x.is_floating_point()} - {torch.float64}
    if narrow:
        coarsest = max(narrow, key=unit)
        comparisons += [_in_own(point, plan, at, evaluation, coarsest, draw) for point, at in own.items()]
    broken = next((c for c in comparisons if not c.ok), None)
    if broken is not None:
        raise RewriteError(f"{_culprit(pieces, plan, state, evaluation)}: {broken}; nothing is rewritten")
    requires = [text for piece in pieces for text in piece.requires]
    requires += [f"{name} is no longer tied to {_source(plan, name)}" for name in plan.untied]
    names = tuple(dict.fromkeys(piece.family for piece in pieces))
    return Certificate(names, tuple(comparisons), tuple(dict.fromkeys(requires)), tuple(notes))


def _source(plan: Plan, name: str) -> str:
    return next(c.source for c in plan if isinstance(c, Copy) and c.tensor == name)


def _in_double(point: str, plan: Plan, wide: State, evaluation: Evaluation) -> Iterable[Comparison]:
    after = plan.apply(wide)
    try:
        change = _difference(evaluation.double(wide, casts=False), evaluation.double(after, casts=False))
        yield Comparison(point, "float64", change, _EXACT, "no narrower type inside")
    except _CANNOT as error:
        if isinstance(error, RewriteError):
            raise
        change = _difference(evaluation.double(wide), evaluation.double(after))
        coarsest = evaluation.coarsest(wide)
        bound = _EXACT if coarsest == torch.float64 else max(_WITH_CASTS, _ROUNDINGS * unit(coarsest))
        yield Comparison(point, "float64", change, bound, f"{_name(coarsest)} inside the model")


def _in_own(
    point: str, plan: Plan, state: State, evaluation: Evaluation, coarsest: torch.dtype, draw: torch.Generator
) -> Comparison:
    """The rewritten parameters, rounded, as the model computes."""
    after = plan.apply(state)
    before_out, after_out = evaluation.own(state), evaluation.own(after)
    noise = 0.0
    for at, out in ((state, before_out), (after, after_out)):
        floats = {name: x for name, x in at.items() if x.is_floating_point()}
        for _ in range(_DRAWS):
            noise = max(noise, _difference(out, evaluation.own({**at, **jitter(floats, unit(coarsest), draw)})))
    bound = _ROUNDINGS * max(noise, unit(coarsest))
    because = f"{_ROUNDINGS:g} roundings of {_name(coarsest)}"
    return Comparison(point, _name(coarsest), _difference(before_out, after_out), bound, because)


def _difference(before: Tensor, after: Tensor) -> float:
    """max |f - f'| / max |f|; entries that are the same infinity are equal. Raises where the output is no number."""
    if bool(before.isnan().any()):
        raise RewriteError("the model's output is not a number before any change; nothing can be compared")
    finite = before.isfinite()
    if bool((before[~finite] != after[~finite]).any()) or not bool(after[finite].isfinite().all()):
        return float("inf")
    before, after = before[finite], after[finite]
    if not before.numel():
        raise RewriteError("the model's output has no finite entry; nothing can be compared")
    size = float(before.abs().max())
    off = float((before - after).abs().max())
    return off / size if size else off


def _moved(plan: Plan, state: State) -> frozenset[str]:
    """Tensors that change or are read, by all their names."""
    known = {name for tensor in plan.tensors for name in (tensor, *plan.reads(tensor))}
    return frozenset(name for name in state if plan.aliases.get(name, name) in known)


def _random(state: State, moved: frozenset[str], draw: torch.Generator) -> dict[str, Tensor]:
    """Parameters near the given ones, but of general position: gains of either sign, biases that are not zero.

    Tensors of one name each; what holds no floats, and what the plan does not concern, stays.
    """
    out: dict[str, Tensor] = dict(state)
    seen: dict[tuple[int, ...], Tensor] = {}
    for name in sorted(moved):
        value = state[name]
        if not value.is_floating_point():
            continue
        key = (value.data_ptr(), value.storage_offset(), *value.shape)
        if key not in seen:
            seen[key] = _disturbed(name, value.detach().double().cpu(), draw).to(value.device)
        out[name] = seen[key]
    return out


def _disturbed(name: str, value: Tensor, draw: torch.Generator) -> Tensor:
    noise = torch.randn(2, *value.shape, generator=draw, dtype=torch.float64)
    if name.endswith("running_var"):
        return value * (1 + 0.3 * noise[0].abs())
    size = float(value.square().mean().sqrt()) if value.numel() else 0.0
    added = (size + 1) / 2 if value.ndim < 2 else max(size, 0.02) / 3
    return value * (1 + 0.3 * noise[0]) + added * noise[1]


def _culprit(pieces: Sequence[Piece], plan: Plan, state: State, evaluation: Evaluation) -> str:
    """The first piece after which the outputs lie apart, and the tensors that it changes."""
    wide = {name: x.double() if x.is_floating_point() else x for name, x in state.items()}
    changes: tuple[Change, ...] = ()
    for piece in pieces:
        changes = (*changes, *piece.changes)
        try:
            off = _difference(evaluation.double(wide), evaluation.double(Plan(changes, plan.aliases).apply(wide)))
        except _CANNOT:
            break
        if off > _WITH_CASTS:
            return f"{', '.join(dict.fromkeys(c.tensor for c in piece.changes))} ({piece.family})"
    return f"the rewrite of {', '.join(plan.tensors[:3])}{' …' if len(plan.tensors) > 3 else ''}"


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
