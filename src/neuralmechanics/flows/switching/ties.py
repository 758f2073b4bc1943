"""Comparisons that can never decide anything on a branch: equal candidates, and scores that a slide holds at zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from neuralmechanics.flows.switching.held_choices import HeldChoices, Surface

__all__ = ["Ignored", "displaced", "equal_candidates", "held_by_slides", "released"]

Ignored = dict[int, Tensor]
"""By call, what is left out of its margins: entries of a sign, (entry, candidate) of a maximum."""

# A score this small beside the largest of its call, or beside the scores of slides, may be zero on a kink.
_NEAR, _DRIFT = 1e-9, 100.0
# Share of a gradient that may stick out of the span of the slides' gradients.
_PARALLEL = 1e-6

Gradients = Callable[[Sequence[Surface]], tuple[Tensor, Tensor]]


def displaced(x: Tensor) -> Tensor:
    """A point well away from x: functions that are smooth on the branch and agree at both agree everywhere."""
    away = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    return x + 0.1 * x.abs().mean() * away


def equal_candidates(here: HeldChoices, there: HeldChoices) -> Ignored:
    """Candidates of maxima that are the same function as the chosen one, or as one of two that slide.

    ``here`` and ``there`` hold one branch at two points. Equal patches of an image and dead units tie so.
    """
    found: Ignored = {}
    for call, choice in enumerate(here.choices):
        if choice.dtype == torch.bool:
            continue
        same = _equal(here, there, call, torch.arange(len(choice)), choice)
        for surface in (s for s in here.slides if s.call == call):
            rows = torch.tensor(surface.entries)
            for candidate in (surface.above, surface.below):
                same[rows] |= _equal(here, there, call, rows, torch.full_like(rows, candidate))
        found[call] = same
    return found


def _equal(here: HeldChoices, there: HeldChoices, call: int, rows: Tensor, candidate: Tensor) -> Tensor:
    # Smooth functions that agree at a point and at a random one are taken for the same.
    same = torch.ones(len(rows), here.values[call].shape[1], dtype=torch.bool)
    for point in (here, there):
        values = point.values[call][rows]
        same &= (values - values.gather(1, candidate[:, None])).abs() <= point.resolution[call]
    return same


def held_by_slides(here: HeldChoices, there: HeldChoices, ignored: Ignored, gradients: Gradients) -> Ignored:
    """``ignored`` and every comparison whose score is zero wherever the scores of the slides are.

    Such as a pool's after a ReLU that slides: relu(z) against 0 from a dead unit. Only its rounding changes sign.
    """
    if not here.slides:
        return ignored
    scores, normals = gradients(here.slides)
    found = dict(ignored)
    known: list[tuple[int, float, bool]] = []
    for surface, candidate in _near(here, ignored, _DRIFT * float(scores.abs().max())):
        call, entry = surface.call, surface.entries[0]
        far = _score(there, surface)
        # Equal scores at the distant point are one function: its gradient is taken once.
        held = next((h for c, f, h in known if c == call and abs(f - far) <= there.resolution[call]), None)
        if held is None:
            row = gradients([surface])[1][0]
            # A gradient in the span of the gradients of the slides: the score stays zero with theirs.
            rest = row - normals.T @ torch.linalg.lstsq(normals.T, row[:, None], driver="gelsd").solution[:, 0]
            held = bool(rest.norm() <= _PARALLEL * row.norm())
            known.append((call, far, held))
        if held:
            values = here.values[call]
            mask = found[call].clone() if call in found else torch.zeros_like(values, dtype=torch.bool)
            mask[entry if candidate is None else (entry, candidate)] = True
            found[call] = mask
    return found


def released(here: HeldChoices, before: Ignored, after: Ignored) -> list[Surface]:
    """The comparisons that were ignored before and no longer are, one for an entry, where they are still at zero."""
    found: list[Surface] = []
    seen: set[tuple[int, int]] = set()
    for surface, candidate in _near(here, after, 0.0, before):
        entry = surface.call, surface.entries[0]
        was = before[surface.call]
        if entry not in seen and bool(was[entry[1]] if candidate is None else was[entry[1], candidate]):
            seen.add(entry)
            found.append(surface)
    return found


def _score(point: HeldChoices, surface: Surface) -> float:
    values = point.values[surface.call][surface.entries[0]]
    return float(values if values.ndim == 0 else values[surface.above] - values[surface.below])


def _near(
    here: HeldChoices, ignored: Ignored, slack: float, only: Ignored | None = None
) -> Iterator[tuple[Surface, int | None]]:
    """Comparisons with a score near zero that are neither ignored nor sliding, as surfaces, with the candidate.

    Of a maximum that slides the third candidates count, unless ``only`` asks for what is free to move.
    """
    for call, (choice, values) in enumerate(zip(here.choices, here.values, strict=True)):
        if only is not None and call not in only:
            continue
        two_sided = choice.dtype == torch.bool
        scores = values if two_sided else values.gather(1, choice[:, None]) - values
        finite = values[torch.isfinite(values)]
        largest = float(finite.abs().max()) if finite.numel() else 0.0
        near = scores.abs() <= _NEAR * largest + slack
        if call in ignored:
            near &= ~ignored[call]
        if not two_sided:
            # The chosen candidate has no score against itself.
            near = near.scatter(1, choice[:, None], False)
        for slide in here.slides:
            if slide.call == call and (two_sided or only is not None):
                near[list(slide.entries)] = False
            elif slide.call == call:
                for candidate in (slide.above, slide.below):
                    near[list(slide.entries), candidate] = False
        for entry, *rest in torch.nonzero(near).tolist():
            if two_sided:
                yield Surface(call, (entry,), 1, 0), None
            else:
                yield Surface(call, (entry,), int(choice[entry]), rest[0]), rest[0]
