"""Steps of one space or family that meet in a product become one step, or none where they undo each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neuralmechanics.rewrite.comparing.elements.steps import FamilyStep, SpaceStep, Step
from neuralmechanics.symmetry import Element as SpaceElement
from neuralmechanics.symmetry import Space

__all__ = ["joined"]

_ROUNDINGS = 8 * torch.finfo(torch.float64).eps


def joined(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The same product with fewer steps: a step is joined to an earlier one of its kind that it can be brought next to.

    >>> joined(())
    ()
    """
    out: list[Step] = []
    for step in steps:
        if not _still(step):
            _add(out, step)
    return tuple(out)


def _add(out: list[Step], step: Step) -> None:
    for at in range(len(out) - 1, -1, -1):
        both = _together(out[at], step)
        if both is not None:
            out[at : at + 1] = both
            return
        if not _commute(out[at], step):
            break
    out.append(step)


def _still(step: Step) -> bool:
    """Whether a step is exactly the identity."""
    if isinstance(step, FamilyStep):
        neutral = {"translation": 0.0, "affine": 0.0, "scale": 1.0, "rescale": 1.0}.get(step.family.kind)
        return neutral is not None and bool((step.amount == neutral).all())
    if isinstance(step, SpaceStep):
        order, factors, matrix = step.element.permutation, step.element.factors, step.element.matrix
        return (
            (order is None or bool((order == torch.arange(order.shape[-1])).all()))
            and (factors is None or bool((factors == 1).all()))
            and (matrix is None or bool((matrix == torch.eye(matrix.shape[-1], dtype=matrix.dtype)).all()))
        )
    return False


def _commute(a: Step, b: Step) -> bool:
    """Whether the order of two steps is seen to make no difference.

    Neither moves what the other moves or reads, or both add constants, or they act along different dimensions of what
    they share.
    """
    shared = {*a.parameters} & {*b.parameters}
    if _adds_constants(a) and _adds_constants(b):
        return True
    if _reads(a, b) or _reads(b, a):
        return False
    if not shared:
        return True
    if not isinstance(a, SpaceStep) or not isinstance(b, SpaceStep):
        return False
    if not shared.isdisjoint(name for space in (a.space, b.space) for block in space.blocks for name in block):
        return False  # a tensor that is exchanged whole comes to be another
    return all(_axes(a.space, name).isdisjoint(_axes(b.space, name)) for name in shared)


def _axes(space: Space, name: str) -> set[int]:
    """The dimensions along which a space tells entries of a tensor apart."""
    entries = [entry for entry in space.entries if entry.parameter == name]
    return {place.axis for entry in entries for place in (entry.place, *entry.beside)}


def _reads(step: Step, other: Step) -> bool:
    """Whether what a step does depends on what another moves: gains that a matrix passes, maps that answer a shift."""
    if isinstance(step, SpaceStep):
        read = {gain.parameter for entry in step.space.entries for gain, _ in entry.dressing}
    elif isinstance(step, FamilyStep):
        read = {*step.family.action.inputs, *step.family.action.anchors, *step.family.action.gains}
    else:
        return True
    return not read.isdisjoint(other.parameters)


def _adds_constants(step: Step) -> bool:
    return isinstance(step, FamilyStep) and step.family.kind == "translation"


def _together(first: Step, then: Step) -> tuple[Step, ...] | None:
    """Both in one step, in none where they undo each other; None where they are not of one kind."""
    if isinstance(first, FamilyStep) and isinstance(then, FamilyStep) and first.family is then.family:
        return _of_family(first, then)
    if isinstance(first, SpaceStep) and isinstance(then, SpaceStep) and first.space is then.space:
        return _of_space(first, then)
    return None


def _of_family(first: FamilyStep, then: FamilyStep) -> tuple[Step, ...] | None:
    a, b, kind = first.amount, then.amount, first.family.kind
    if a.shape != b.shape:
        return None
    if kind == "translation":
        # What is left of two amounts that cancel is their rounding.
        left, size = a + b, torch.maximum(a.abs(), b.abs())
        return () if bool((left.abs() <= _ROUNDINGS * size).all()) else (FamilyStep(first.family, left),)
    if kind in ("scale", "rescale"):
        return () if _ones(a * b) else (FamilyStep(first.family, a * b),)
    return None


def _of_space(first: SpaceStep, then: SpaceStep) -> tuple[Step, ...] | None:
    a, b = first.element, then.element
    if a.permutation is not None and b.permutation is not None and a.permutation.shape == b.permutation.shape:
        # Channel i of the result is channel b[i] of what the first has made, which is channel a[b[i]] of the given.
        order = a.permutation.gather(-1, b.permutation)
        still = bool((order == torch.arange(order.shape[-1])).all())
        return () if still else (SpaceStep(first.space, SpaceElement(permutation=order)),)
    if a.factors is not None and b.factors is not None and a.factors.shape == b.factors.shape:
        both = a.factors * b.factors
        return () if _ones(both) else (SpaceStep(first.space, SpaceElement(factors=both)),)
    if a.matrix is not None and b.matrix is not None and a.matrix.shape == b.matrix.shape:
        return (SpaceStep(first.space, SpaceElement(matrix=b.matrix @ a.matrix)),)
    return None


def _ones(factors: Tensor) -> bool:
    return bool(((factors - 1).abs() <= _ROUNDINGS).all())
