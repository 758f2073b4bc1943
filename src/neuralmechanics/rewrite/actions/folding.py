"""Fold: the gains and biases of norms moved into the weights that read them, so that norms have none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.actions.certificate import Piece
from neuralmechanics.rewrite.actions.looking.gains import Gain, gains_of
from neuralmechanics.rewrite.actions.looking.subject import Subject
from neuralmechanics.rewrite.actions.moving.diagonals import GainFactors, multiplied, origin_of, slots
from neuralmechanics.rewrite.actions.rewritten import Refusal, Rewritten
from neuralmechanics.rewrite.plan import AddImage, Change, Factor, Fill, Power
from neuralmechanics.slices import SliceTerm
from neuralmechanics.symmetry import Family

__all__ = ["fold", "fold_pieces"]


def fold(
    model: nn.Module, batch: Any, loss_fn: LossFunction | None = None, *, params: Mapping[str, Tensor] | None = None
) -> Rewritten:
    """Gains become 1 (or 1 + w with w = 0) and biases of norms 0; the weights behind, or before, take them up.

    W (γ ∘ x + β) + b = (W diag γ) x + (b + W β). A gain that is negative, or zero, is folded too where only linear
    operations lie between; elsewhere its sign stays.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2)).double()
    >>> _ = torch.nn.init.normal_(model[1].weight)
    >>> folded = fold(model, torch.randn(5, 3, dtype=torch.float64))
    >>> folded.params["1.weight"].tolist(), folded.certificate.ok
    ([1.0, 1.0, 1.0, 1.0], True)
    """
    subject = Subject(model, batch, loss_fn, params)
    pieces, refused = fold_pieces(subject)
    return subject.rewritten(pieces, refused)


def fold_pieces(subject: Subject) -> tuple[list[Piece], list[Refusal]]:
    """Biases first, which read the weights as they are; then the gains."""
    pieces: list[Piece] = []
    refused: list[Refusal] = []
    gains = gains_of(subject.program)
    cleared: set[str] = set()
    for gain in gains:
        if gain.bias is None or gain.bias in cleared:
            continue
        piece = _bias_piece(subject, gain.bias)
        if piece is None:
            refused.append(Refusal(gain.bias, _why_bias_stays(subject, gain)))
        else:
            cleared.add(gain.bias)
            pieces.append(piece)
    used: dict[int, str] = {}
    vectors = {gain.name for gain in gains}
    for gain in gains:
        answer = _gain_piece(subject, gain, vectors, cleared, used)
        if isinstance(answer, Refusal):
            refused.append(answer)
        else:
            pieces.append(answer)
    if not gains:
        refused.append(Refusal(type(subject.model).__name__, "no vector of parameters multiplies channels"))
    return pieces, refused


# --- biases -------------------------------------------------------------------------------------------------------


def _bias_piece(subject: Subject, name: str) -> Piece | None:
    """b + W β for every bias b that absorbs β, which becomes zero."""
    for family in subject.symmetries:
        action, terms = family.action, family.action.shift_terms
        if family.broken_by or len(terms) != 1 or terms[0].view.parameter != name:
            continue
        # What else moves, as maps of what modulates do, is no image of the bias.
        if set(action.parameters) != {name, *(answer.absorber for answer in action.answers)}:
            continue
        term = terms[0]
        found = slots(term, action.weights_shape[0])
        if found is None:
            continue
        changes: list[Change] = []
        for answer in action.answers:
            ratio = torch.as_tensor(answer.coefficients / _per_charge(term)[answer.generators], dtype=torch.float64)
            index = found[answer.generators]
            values = None if bool((ratio == 1).all()) else ratio
            vector = Factor(values, (Power(name, index, np.ones(len(index))),))
            changes.append(AddImage(answer.absorber, answer.factors, vector, answer.inputs))
        return Piece(family.name, (*changes, Fill(name, 0.0)), family.requires)
    return None


def _per_charge(term: SliceTerm) -> np.ndarray:
    out = np.zeros(len(term.charges))
    out[term.charges] = term.coefficients
    return out


# --- gains --------------------------------------------------------------------------------------------------------


def _gain_piece(
    subject: Subject, gain: Gain, vectors: Iterable[str], cleared: set[str], used: dict[int, str]
) -> Piece | Refusal:
    """The family that multiplies each entry of the gain by a factor of its own, with the factors 1/γ."""
    name = gain.name
    found = [(f, t) for f in subject.symmetries if (t := _own_term(f, name)) is not None]
    exact = [(f, t) for f, t in found if not f.broken_by]
    if not exact:
        return Refusal(name, _why_gain_stays(subject, gain, found[0][0] if found else None))
    family, term = exact[0]
    action = family.action
    if (before := used.get(id(family))) is not None:
        return Refusal(name, f"it shares its factors with {before}, which was folded")
    own = _per_charge(term)
    others = [t for t in action.factor_terms if t is not term]
    taking = {t.view.parameter for t in others if (t.coefficients * own[t.charges] < 0).all()}
    weights = {n for n in taking if n not in vectors}
    if not weights:
        return Refusal(
            name, f"no weight takes it up: only {', '.join(sorted(taking)) or 'nothing'} is scaled against it"
        )
    origin, slot = origin_of(action, name), slots(term, action.charges)
    if origin is None or slot is None or len(set(own.tolist())) != 1:
        return Refusal(name, "its entries are displaced by numbers of their own")
    signed = action.signed or any(s is not None and weights <= s for s in (gain.into, gain.behind))
    by = GainFactors(name, slot, -1.0 / float(own[0]), origin, size=not signed)
    changes: list[Change] = []
    for other in others:
        parameter = other.view.parameter
        if parameter in cleared:
            continue
        refusal = _divided_by_zero(subject, other, by, origin)
        if refusal is not None:
            return refusal
        shift = origin_of(action, parameter)
        change = None if shift is None else multiplied(other, by, subject.shape(parameter), shift)
        if change is None:
            return Refusal(name, f"{parameter} is scaled in a way that is no product along one or two dimensions")
        changes.append(change)
    used[id(family)] = name
    return Piece(family.name, (*changes, Fill(name, 1.0, origin, signs=not signed)), family.requires)


def _own_term(family: Family, name: str) -> SliceTerm | None:
    """The term of a gain in a family of factors that has one for each of its entries."""
    action = family.action
    own = [term for term in action.factor_terms if term.view.parameter == name]
    if len(own) != 1 or slots(own[0], action.charges) is None or (np.abs(own[0].coefficients) != 1).any():
        return None
    return own[0]


def _divided_by_zero(subject: Subject, term: SliceTerm, by: GainFactors, origin: float) -> Refusal | None:
    """What is scaled with the gain is divided by it, which a zero forbids."""
    divided = (by.power * term.coefficients < 0).any()
    value = subject.state[by.gain]
    if not divided or value.is_meta or not bool((value.double() + origin == 0).any()):
        return None
    return Refusal(by.gain, f"an entry is zero, and {term.view.parameter} would be divided by it")


# --- what stays ---------------------------------------------------------------------------------------------------


def _why_gain_stays(subject: Subject, gain: Gain, broken: Family | None) -> str:
    """One sentence: the operation, or the other name of a weight, that stops it."""
    if broken is not None:
        return f"the scaling of {broken.name} is broken by {broken.broken_by[0]}"
    tied = [name for name in subject.aliases.values() if name in (gain.into or ())]
    if tied:
        return f"{tied[0]}, which reads what it multiplies, is tied to {_alias(subject, tied[0])}: untie first"
    if gain.end:
        return f"what it multiplies goes on to {gain.end}, before which no weight stands that could take it up"
    return f"its entries are no factors of their own ({subject.why_free(gain.name)})"


def _why_bias_stays(subject: Subject, gain: Gain) -> str:
    if gain.end:
        return f"what it is added to goes on to {gain.end}, before which no bias stands that could take it up"
    without = ", ".join(sorted(gain.into or ())) or "what reads it"
    return f"not every reader can take up W·β in a bias of its own: {without}"


def _alias(subject: Subject, name: str) -> str:
    return next(alias for alias, known in subject.aliases.items() if known == name)
