"""Shears of the weights that read a centring norm: what the transport of whole spaces noted, as actions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry.algebra.sets import distinct
from neuralmechanics.symmetry.domains.representation.shears import Sheared
from neuralmechanics.symmetry.families.actions import AffineShift, Shear, ShearTerm, Shift

__all__ = ["Answering", "Freeing", "shared_shears", "shears_of", "whole_shears"]

Shapes = Mapping[str, tuple[int, ...]]
Answering = Callable[[Sequence[Sheared]], Mapping[str, Sequence[tuple[SliceTerm, AffineShift]]]]
"""For weights, the constants that these may add to what they make, as terms of a bias, and what takes them back."""
Freeing = Callable[[Sequence[Sheared]], Mapping[str, Sequence[SliceTerm]]]
"""For weights, what takes back a shift of each column, numbered by columns, wherever else the weight is read."""


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


def shared_shears(noted: Mapping[str, Sheared], shapes: Shapes, answered: Answering, freed: Freeing) -> list[Shear]:
    """Shears of weights that are read elsewhere, too, as a table is that embeds words and scores them.

    There all rows move alike, W + u·1 (1/γ)ᵀ, and other parameters take each column's u/γ_j back.
    """
    besides = freed([*noted.values()]) if noted else {}
    constant = [noted[name] for name in besides if noted[name].hollow.shifts]
    known = answered(constant) if constant else {}
    found = []
    for name, terms in besides.items():
        w, beside = noted[name], Shift(tuple(terms))
        view = SliceView(name, tuple(1 if d == w.inputs else n for d, n in enumerate(shapes[name])), ())
        own = SliceTerm(view, np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones(1))
        answers = [_all_alike(*one) for one in known.get(name, ())] if w.hollow.shifts else [AffineShift((), ())]
        for answer in answers:
            if answer is None or _moves(answer, w, beside.parameters):
                continue
            term = ShearTerm(own, w.inputs, w.hollow.dressing, w.hollow.shifts)
            found.append(Shear(term, answer, beside))
            break
    return found


def _all_alike(own: SliceTerm, answer: AffineShift) -> AffineShift | None:
    """What takes back one number added to all entries of a bias; None where these are no shifts of it that make it."""
    count = int(own.charges.max()) + 1
    values = np.zeros(count)
    values[own.charges] = own.coefficients
    even = np.array_equal(values[own.charges], own.coefficients) and len(own.slices) == own.view.size
    if not even or len(distinct(own.slices)) != own.view.size or not values.all():
        return None
    amounts = 1 / values  # one number of each generator
    answers = tuple(
        replace(t, generators=np.zeros_like(t.generators), coefficients=t.coefficients * amounts[t.generators])
        for t in answer.answers
    )
    return AffineShift(tuple(_in_one_row(t, amounts) for t in answer.terms), answers)


def _in_one_row(term: SliceTerm, amounts: np.ndarray) -> SliceTerm:
    """The rows times ``amounts`` added up; a whole view as its one slice where all of them are the same."""
    slices, place = np.unique(term.slices, return_inverse=True)
    total = np.bincount(place.reshape(-1), term.coefficients * amounts[term.charges])
    view = term.view
    if len(slices) == view.size and (total == total[0]).all():
        view, slices, total = replace(view, kept=()), np.zeros(1, np.int64), total[:1]
    return SliceTerm(view, np.zeros(len(slices), np.int64), slices, total)


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


def _moves(answer: AffineShift, w: Sheared, beside: Collection[str] = ()) -> bool:
    """Whether an answer moves anything that the shear is made of, or passes a map that moves: then it is no shear.

    ``beside``: what else the shear moves.
    """
    fixed = {*w.made_of, *answer.inputs}
    return bool(fixed & set(answer.parameters)) or bool({w.weight, *beside} & set(answer.inputs))


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
