"""The budget of a charge from its values at a few steps alone: the law solved for the drive between two of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.laws.equilibrium import alignment
from neuralmechanics.optimizers.hyperparameters.sgd import Sgd

__all__ = ["SparseBudget", "sparse_budget"]

_PARTS = ("finite_step", "weight_decay", "momentum_memory", "broken_symmetry", "preconditioning")


@dataclass(frozen=True, eq=False)
class SparseBudget:
    """Parts [interval, charge] by cause, and how far their sums move when every second value is left out [charge]."""

    parts: dict[str, Float64[Tensor, "intervals charges"]]
    error: dict[str, Float64[Tensor, " charges"]]


def sparse_budget(
    steps: list[int],
    charges: Float64[Tensor, "values charges"],
    hyper: Callable[[int], Sgd[float]],
    quadratic: Bool[Tensor, " charges"],
    *,
    follows_sgd: bool = True,
) -> SparseBudget:
    """Between two known values w = |v|² is taken as constant: X depends on it linearly, so the next value gives it.

        x = βC + aλX;   X ← X - 2ηx + η²w;   C ← x - ηw           (translations: ρ is constant in place of w)

    The symmetry is taken to hold: what breaks it counts as finite step, for translations as broken symmetry. Nesterov's
    ⟨d,v⟩ is that of uncorrelated gradients; how far that of equal ones is from it counts as error.
    An optimiser with decoupled decay other than SGD has
    X ← (1-ηλ)²X + η²w, whose w is preconditioning and finite step together. Source: theory 3.3, 3.4.
    """
    fine = _solved(steps, charges, hyper, quadratic, follows_sgd=follows_sgd)
    rows = sorted({*range(0, len(steps), 2), len(steps) - 1})
    error = {name: torch.full_like(charges[0], torch.nan) for name in fine}
    if len(rows) < len(steps):
        some = [steps[k] for k in rows]
        coarse = _solved(some, charges[rows], hyper, quadratic, follows_sgd=follows_sgd)
        error = {name: (fine[name].sum(0) - coarse[name].sum(0)).abs() for name in fine}
    if follows_sgd and any(hyper(step).nesterov for step in steps[:-1]):
        other = _solved(steps, charges, hyper, quadratic, follows_sgd=True, correlated=True)
        error = {name: error[name] + (fine[name].sum(0) - other[name].sum(0)).abs() for name in fine}
    return SparseBudget(fine, error)


def _solved(
    steps: list[int],
    charges: Tensor,
    hyper: Callable[[int], Sgd[float]],
    quadratic: Tensor,
    *,
    follows_sgd: bool,
    correlated: bool = False,
) -> dict[str, Tensor]:
    companion = torch.zeros_like(charges[0])
    rows: list[Tensor] = []
    for (begin, end), start, goal in zip(pairwise(steps), charges, charges[1:], strict=False):
        settings = [(hyper(k), k == 0) for k in range(begin, end)]
        advance = partial(_advance_sgd, correlated=correlated) if follows_sgd else _advance_apart
        still = advance(settings, start, companion, torch.zeros_like(start), quadratic)
        moved = advance(settings, start, companion, torch.ones_like(start), quadratic)
        response = moved.charge - still.charge
        drive = torch.where(response != 0, (goal - still.charge) / response, 0.0)
        found = advance(settings, start, companion, drive, quadratic)
        companion = found.companion
        rows.append(found.parts)
    stacked = torch.stack(rows) if rows else torch.zeros(0, len(_PARTS), charges.shape[1], dtype=torch.float64)
    return {name: stacked[:, k] for k, name in enumerate(_PARTS)}


@dataclass(frozen=True, eq=False)
class _End:
    charge: Tensor
    companion: Tensor
    parts: Float64[Tensor, "parts charges"]


def _advance_sgd(
    settings: list[tuple[Sgd[float], bool]], X: Tensor, C: Tensor, drive: Tensor, quadratic: Tensor, *, correlated: bool
) -> _End:
    parts = torch.zeros(len(_PARTS), len(X), dtype=torch.float64)
    p = 1 + quadratic.double()
    w, ρ = torch.where(quadratic, drive, 0.0), torch.where(quadratic, 0.0, drive)
    for hyper, first in settings:
        η, λ, β = hyper.learning_rate, hyper.weight_decay, hyper.momentum
        gain = 1.0 if first or β == 0 else 1 - hyper.dampening
        C = torch.zeros_like(C) if first else C
        u = λ * X + ρ
        x = β * C + gain * u
        ahead = hyper.nesterov and β != 0
        parts[0] += η * η * w
        parts[1] -= p * η * (1 + β if ahead else gain) * λ * X
        parts[2] -= p * η * (β * β if ahead else β) * C
        parts[3] -= p * η * (1 + β if ahead else gain) * ρ
        X = X - p * η * (u + β * x if ahead else x) + η * η * w
        along = 1.0 if correlated or not ahead else alignment(β)
        C = x - η * w * along if β else torch.zeros_like(C)
    return _End(X, C, parts)


def _advance_apart(
    settings: list[tuple[Sgd[float], bool]], X: Tensor, C: Tensor, drive: Tensor, quadratic: Tensor
) -> _End:
    parts = torch.zeros(len(_PARTS), len(X), dtype=torch.float64)
    for hyper, _ in settings:
        η, shrink = hyper.learning_rate, 1 - hyper.learning_rate * hyper.weight_decay
        kept = torch.where(quadratic, shrink * shrink, shrink)
        grown = torch.where(quadratic, η * η, η) * drive
        parts[1] += (kept - 1) * X
        parts[4] += grown
        X = kept * X + grown
    return _End(X, C, parts)
