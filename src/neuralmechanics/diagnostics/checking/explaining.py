"""Where a constant breaks families: whether loss, gradient and the norms' formula agree on what it leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from neuralmechanics.diagnostics.checking.halving import by_halves
from neuralmechanics.diagnostics.checking.norm_eps import norm_eps_residual
from neuralmechanics.diagnostics.checking.orbits import along, slope
from neuralmechanics.diagnostics.checking.readings import Reading
from neuralmechanics.diagnostics.checking.scene import Fine, Scene, root_mean_square
from neuralmechanics.diagnostics.checking.verdicts import LIMIT, Explanation
from neuralmechanics.symmetry.families.family import Family

__all__ = ["Explained", "Weighted", "explained"]


@dataclass(frozen=True, eq=False)
class Weighted:
    """One batch, and several random weightings of every family's generators for it."""

    scene: Scene
    draws: tuple[tuple[Tensor, ...], ...]


@dataclass(frozen=True)
class Explained:
    """The explanations of one family, one a batch; ``alone``: whether the loss was taken along its own orbit.

    Otherwise the loss and the formula were compared with the sum of the gradients of several families, and agreed.
    """

    explanations: tuple[Explanation, ...] = ()
    alone: bool = True

    @property
    def worst(self) -> Explanation:
        """That with the greatest distance between gradient and loss; of NaN where there is none."""
        return max(self.explanations, key=lambda e: abs(e.measured - e.slope), default=Explanation(*[math.nan] * 5))


@dataclass(frozen=True)
class _Sum:
    """Along the orbits of several families at once: the loss's slope, and what the norms' formula says of it."""

    slope: float
    predicted: float


def explained(
    families: Sequence[Family],
    weighted: Sequence[Weighted],
    gradients: Sequence[Sequence[Reading]],
    asked: frozenset[int],
    rounding: float,
) -> Mapping[int, Explained]:
    """For each family that a constant breaks, one explanation a batch.

    ``gradients``: ⟨g, ξ⟩ of every family and batch; ``asked``: the families that the norms' formula must account for,
    besides those along whose orbits the loss is steep. All are linear in ξ, so families are looked at together first.
    """

    def alone(k: int, sums: Sequence[_Sum | None]) -> tuple[Explanation, ...]:
        out = []
        for batch, reading, found in zip(weighted, gradients[k], sums, strict=True):
            seen = found or _Sum(reading.value, reading.value)
            slack = _slack(reading, batch.scene, rounding)
            out.append(Explanation(reading.value, reading.size, seen.slope, seen.predicted, slack))
        return tuple(out)

    def measure(chosen: tuple[int, ...]) -> list[_Sum]:
        return [_summed(families, batch, chosen, rounding) for batch in weighted]

    def holds(chosen: tuple[int, ...], sums: list[_Sum]) -> bool:
        """Whether the sums agree as well as the smallest of the summands has to, on its own."""
        members = [alone(k, [None] * len(weighted)) for k in chosen]
        for number, found in enumerate(sums):
            each = [own[number] for own in members]
            total = sum(e.measured for e in each)
            if not abs(total - found.slope) <= min(e.slack + 1e-3 * abs(e.measured) for e in each):
                return False
            needed = any(k in asked or not e.small for k, e in zip(chosen, each, strict=True))
            near = min(e.slack + 0.05 * abs(e.measured) for e in each)
            if needed and not abs(found.slope - found.predicted) <= near:
                return False
        return True

    broken = [k for k, family in enumerate(families) if family.broken_by]
    return {
        k: Explained(alone(k, sums if len(chosen) == 1 else [None] * len(weighted)), len(chosen) == 1)
        for k, (chosen, sums) in by_halves(broken, measure, holds).items()
    }


def _summed(families: Sequence[Family], batch: Weighted, chosen: Sequence[int], rounding: float) -> _Sum:
    """In float64 where the model runs in it."""
    fine = _fine(batch.scene, rounding)
    path = along([(families[k], batch.draws[0][k]) for k in chosen], fine.params)
    return _Sum(slope(fine.objective, path, _time(fine)), norm_eps_residual(fine.objective, fine.params, path))


def _fine(scene: Scene, rounding: float) -> Fine:
    if scene.same_function:
        return scene.fine
    return Fine(scene.objective, scene.params, scene.loss, scene.changes, rounding)


def _time(fine: Fine) -> float:
    # Four values of the loss give its slope to t⁴, and rounding leaves ε/t in it: the way is as short as ε allows.
    return 0.01 if fine.rounding < 1e-10 else 0.25


def _slack(gradient: Reading, scene: Scene, rounding: float) -> float:
    """By how much rounding may set the slope of the loss and the gradient apart."""
    fine = _fine(scene, rounding)
    return LIMIT * (rounding * gradient.spread + root_mean_square(gradient.changes) + fine.noise / _time(fine))
