"""Steps are accepted entry by entry: what is small is followed as closely, in its own units, as what is large."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch

from neuralmechanics.flows import GradientFlow, integrate
from neuralmechanics.flows.equation.system import Piece
from neuralmechanics.flows.integration.adaptive import _march, _Memory
from neuralmechanics.flows.integration.dormand_prince import _Step
from neuralmechanics.flows.integration.guard import Guard


def test_the_score_is_the_root_mean_square_of_errors_in_their_own_units() -> None:
    scales = [1e-12 + 1e-8 * 2e6, 1e-12 + 1e-8 * 3e-6, 1e-12]
    errors = [1.0, 1e-9, 1e-12]
    expected = math.sqrt(sum((e / s) ** 2 for e, s in zip(errors, scales, strict=True)) / 3)
    error, scale = torch.tensor([errors, scales], dtype=torch.float64)
    assert _Step(error, [], error, 0.0, 0.0).score(scale) == pytest.approx(expected, rel=1e-12)


def test_entries_of_very_different_size_are_all_followed() -> None:
    """θ' = -cθ from 1e8 and from 1e-8, the small one the faster: both to the tolerance, in units of their own."""
    start = {name: torch.tensor([size], dtype=torch.float64) for name, size in (("large", 1e8), ("small", 1e-8))}

    def loss(p: dict[str, torch.Tensor]) -> torch.Tensor:
        return 0.1 * p["large"].square().sum() / 2 + 5 * p["small"].square().sum() / 2

    path = integrate(
        GradientFlow(loss), start, [0.0, 1.0], method="dopri5", rtol=1e-9, atol=1e-18, estimate_error=False
    )
    for name, rate in (("large", 0.1), ("small", 5.0)):
        expected = float(start[name]) * math.exp(-rate)
        assert float(path.final[name]) == pytest.approx(expected, rel=1e-7)


class Cliff:
    """A scheme whose error is (h/0.5)^5 tolerances, and no number for steps of 0.6 and more; every trial is kept."""

    error_order, border = 5, math.inf

    def __init__(self) -> None:
        self.tried: list[float] = []

    def trial(self, field: object, x: torch.Tensor, slope: torch.Tensor, h: float) -> _Step:
        self.tried.append(h)
        score = (h / 0.5) ** 5 if h < 0.6 else math.nan
        return _Step(x, [], torch.full_like(x, score), 0.0, 0.0)


class Whole:
    """Every step to its end."""

    field = None

    def start(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def reach(self, h: float) -> float:
        return h

    def passed(self, t: float, x: torch.Tensor, step: _Step, h: float) -> tuple[float, torch.Tensor, torch.Tensor]:
        return 1.0, x, x


def test_a_step_may_grow_again_only_after_one_that_was_as_long_as_the_last() -> None:
    """A tenth of what gave no number, as much again, and only then as much as the error allows: 0.9 of 0.5."""
    scheme, x = Cliff(), torch.zeros(1, dtype=torch.float64)
    piece = Piece(0.0, 1.0, lambda point: point)
    accepted = list(_march(piece, Whole(), x, 1.0, Guard(99, x, None), _Memory(), scheme, 1.0, 1.0))
    assert scheme.tried == pytest.approx([1.0, 0.1, 0.1, 0.45, 0.35])
    assert [part.h for part in accepted] == scheme.tried[1:]


class CutShort(Whole):
    """The first step is cut to a hundredth of the way, as at a kink."""

    def __init__(self) -> None:
        self.cuts = [0.01]

    def reach(self, h: float) -> float:
        return self.cuts.pop() if self.cuts else h


def test_a_step_that_was_cut_short_is_no_measure_for_the_next() -> None:
    """What accuracy allowed before holds after it: .3, then 0.9 of 0.5, then the rest."""
    scheme, x = Cliff(), torch.zeros(1, dtype=torch.float64)
    piece = Piece(0.0, 1.0, lambda point: point)
    list(_march(piece, CutShort(), x, 0.3, Guard(99, x, None), _Memory(), scheme, 1.0, 1.0))
    assert scheme.tried == pytest.approx([0.01, 0.3, 0.45, 0.24])


class Scored(_Step):
    """A step without error that keeps what its error would be relative to."""

    scales: ClassVar[list[list[float]]] = []

    def score(self, scale: torch.Tensor) -> float:
        self.scales.append(scale.tolist())
        return 0.0


class Leap(Cliff):
    """From (1, -2, 4) to (10, -1, -5) in one step."""

    def trial(self, field: object, x: torch.Tensor, slope: torch.Tensor, h: float) -> _Step:
        end = torch.tensor([10.0, -1.0, -5.0], dtype=torch.float64)
        return Scored(end, [], torch.zeros_like(x), 0.0, 0.0)


def test_an_error_is_relative_to_the_larger_of_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scored, "scales", [])
    x = torch.tensor([1.0, -2.0, 4.0], dtype=torch.float64)
    piece = Piece(0.0, 1.0, lambda point: point)
    list(_march(piece, Whole(), x, 1.0, Guard(99, x, None), _Memory(), Leap(), 0.25, 0.5))
    assert Scored.scales == [[0.5 + 2.5, 0.5 + 0.5, 0.5 + 1.25]]
