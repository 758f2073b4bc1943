"""Shears of the weights that read a centring norm: what the transport of whole spaces noted, as actions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry.domains.representation.shears import Sheared
from neuralmechanics.symmetry.families.actions import AffineShift, Shear, ShearTerm

__all__ = ["Answering", "shears_of", "whole_shears"]

Shapes = Mapping[str, tuple[int, ...]]
Answering = Callable[[Sequence[Sheared]], Mapping[str, Sequence[tuple[SliceTerm, AffineShift]]]]
"""For weights, the constants that these may add to what they make, as terms of a bias, and what takes them back."""


def shears_of(noted: Mapping[str, Sheared], shapes: Shapes, answered: Answering) -> list[Shear]:
    """Shears that leave no constant, whose constant biases take back, or whose constant is forgotten."""
    waiting = [w for w in noted.values() if w.hollow.shifts and w.absorber is None]
    known = answered(waiting) if waiting else {}
    found: list[Shear] = []
    for w in noted.values():
        if w.hollow.shifts and w.absorber is None:
            answers = known.get(w.weight, ())
            found += [_shear(w, own, rest) for own, rest in answers if not _moves(rest, w)]
            continue
        shape = tuple(1 if d == w.inputs else n for d, n in enumerate(shapes[w.weight]))
        own = _each(SliceView(w.weight, shape, _wide(shape)), 1.0)
        bias = w.absorber if w.hollow.shifts else None
        taken = () if bias is None else (_each(SliceView(bias, shapes[bias], _wide(shapes[bias])), -1.0),)
        found.append(_shear(w, own, AffineShift(taken, ())))
    return found


def whole_shears(shears: Sequence[Shear]) -> Collection[tuple[str, int]]:
    """The weights, each with its inputs, of which shears move all outputs, and each by itself."""
    counts: dict[tuple[str, int], int] = {}
    size = {}
    for shear in shears:
        term = shear.term
        place = term.weight, term.inputs
        counts[place] = counts.get(place, 0) + shear.weights_shape[0]
        size[place] = int(np.prod(term.slices.view.shape, dtype=np.int64))
    return {place for place, count in counts.items() if count == size[place]}


def _moves(answer: AffineShift, w: Sheared) -> bool:
    """Whether an answer moves anything that the shear is made of, or a map that it passes: then it is no shear."""
    fixed = {w.weight, *(gain.parameter for gain, _ in w.hollow.dressing), *answer.inputs}
    for name, since in w.hollow.shifts:
        fixed |= {name, *(gain.parameter for gain, _ in since)}
    return bool(fixed & set(answer.parameters)) or w.weight in answer.inputs


def _wide(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(d for d, n in enumerate(shape) if n > 1)


def _each(view: SliceView, value: float) -> SliceTerm:
    """Each slice of a view by itself."""
    numbers = np.arange(view.size)
    return SliceTerm(view, numbers, numbers, np.full(view.size, value))


def _shear(w: Sheared, bias: SliceTerm, answer: AffineShift) -> Shear:
    """The shear whose constant is that term of a bias, of the weight's dimensions with one entry along its inputs."""
    slices = replace(bias, view=replace(bias.view, parameter=w.weight))
    return Shear(ShearTerm(slices, w.inputs, w.hollow.dressing, w.hollow.shifts), answer)
