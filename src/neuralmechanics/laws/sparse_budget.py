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
    companions: Float64[Tensor, "values charges"] | None = None,
) -> SparseBudget:
    """Between two known values w = |v|² is taken as constant: X depends on it linearly, so the next value gives it.

        x = βC + aλX;   X ← X - 2ηx + η²w;   C ← x - ηw           (translations: ρ is constant in place of w)

    `companions` are C = ⟨ξ,v⟩ at the same steps, where momentum buffers were kept. Then w has a second part, growing
    by 1/β a step up to the next value, and both are solved for. At one η in an interval the parts of the heavy ball are
    then exact whatever w is, but for ΣX: summed up, the law is (1-β)ΣC = aλΣX - ηΣw - ΔC and
    ΔX = -2η(βΣC + aλΣX) + η²Σw, two equations for ΣC and Σw.

    The symmetry is taken to hold: what breaks it counts as finite step, for translations as broken symmetry. Nesterov's
    ⟨d,v⟩ is that of uncorrelated gradients; how far that of equal ones is from it counts as error.
    An optimiser with decoupled decay other than SGD has
    X ← (1-ηλ)²X + η²w, whose w is preconditioning and finite step together. Source: theory 3.3, 3.4.
    """
    if companions is None:
        companions = torch.full_like(charges, torch.nan)
    fine = _solved(steps, charges, hyper, quadratic, companions, follows_sgd=follows_sgd)
    rows = sorted({*range(0, len(steps), 2), len(steps) - 1})
    error = {name: torch.full_like(charges[0], torch.nan) for name in fine}
    if len(rows) < len(steps):
        some = [steps[k] for k in rows]
        coarse = _solved(some, charges[rows], hyper, quadratic, companions[rows], follows_sgd=follows_sgd)
        error = {name: (fine[name].sum(0) - coarse[name].sum(0)).abs() for name in fine}
    if follows_sgd and any(hyper(step).nesterov for step in steps[:-1]):
        other = _solved(steps, charges, hyper, quadratic, companions, follows_sgd=True, correlated=True)
        error = {name: error[name] + (fine[name].sum(0) - other[name].sum(0)).abs() for name in fine}
    return SparseBudget(fine, error)


def _solved(
    steps: list[int],
    charges: Tensor,
    hyper: Callable[[int], Sgd[float]],
    quadratic: Tensor,
    companions: Tensor,
    *,
    follows_sgd: bool,
    correlated: bool = False,
) -> dict[str, Tensor]:
    known = not bool(companions.isnan().any())
    companion = companions[0] if known and len(companions) else torch.zeros_like(charges[0])
    rows: list[Tensor] = []
    for k, (begin, end) in enumerate(pairwise(steps)):
        settings = [(hyper(step), step == 0) for step in range(begin, end)]
        advance = partial(_advance_sgd, correlated=correlated) if follows_sgd else _advance_apart
        # One unknown a condition: C is one where there is a buffer and it was kept.
        # Over a single step the constant part and the growing one are the same number.
        count = 2 if known and follows_sgd and settings[-1][0].momentum != 0 and end - begin > 1 else 1
        drive = _drive(
            partial(advance, settings, charges[k], companion, quadratic), charges[k + 1], companions[k + 1], count
        )
        found = advance(settings, charges[k], companion, quadratic, drive)
        companion = companions[k + 1] if known else found.companion
        rows.append(found.parts)
    stacked = torch.stack(rows) if rows else torch.zeros(0, len(_PARTS), charges.shape[1], dtype=torch.float64)
    return {name: stacked[:, k] for k, name in enumerate(_PARTS)}


def _drive(end_of: Callable[[Tensor], _End], charge: Tensor, companion: Tensor, count: int) -> Tensor:
    """The drive, its constant part and the one that grows towards the end, whose motion ends where it did."""
    drive = torch.zeros(2, len(charge), dtype=torch.float64)

    def reached(values: Tensor) -> Tensor:
        end = end_of(values)
        return torch.stack([end.charge, end.companion])[:count]

    # The law is linear in its drive: the end without one and with a unit of each gives it by one small system.
    still, columns = reached(drive), []
    for k in range(count):
        unit = drive.clone()
        unit[k] = 1.0
        columns.append(reached(unit) - still)
    response = torch.stack(columns, dim=-1).transpose(0, 1)
    wanted = (torch.stack([charge, companion])[:count] - still).T
    # A step of length 0 leads nowhere, and nothing is to be solved for.
    moved = torch.linalg.det(response) != 0
    solved = torch.linalg.solve(torch.where(moved[:, None, None], response, torch.eye(count).double()), wanted)
    drive[:count] = torch.where(moved[:, None], solved, 0.0).T
    return drive


@dataclass(frozen=True, eq=False)
class _End:
    charge: Tensor
    companion: Tensor
    parts: Float64[Tensor, "parts charges"]


def _advance_sgd(
    settings: list[tuple[Sgd[float], bool]], X: Tensor, C: Tensor, quadratic: Tensor, drive: Tensor, *, correlated: bool
) -> _End:
    parts = torch.zeros(len(_PARTS), len(X), dtype=torch.float64)
    p = 1 + quadratic.double()
    for left, (hyper, first) in zip(reversed(range(len(settings))), settings, strict=True):
        η, λ, β = hyper.learning_rate, hyper.weight_decay, hyper.momentum
        force = drive[0] + drive[1] * β**left
        w, ρ = torch.where(quadratic, force, 0.0), torch.where(quadratic, 0.0, force)
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
        # ⟨d,v⟩ = -η⟨s,v⟩: |v|² for the heavy ball, whose s is v, and r|s|² for Nesterov with uncorrelated gradients.
        along = 1.0 if correlated or not ahead else alignment(β)
        C = x - η * w * along if β else torch.zeros_like(C)
    return _End(X, C, parts)


def _advance_apart(
    settings: list[tuple[Sgd[float], bool]], X: Tensor, C: Tensor, quadratic: Tensor, drive: Tensor
) -> _End:
    parts = torch.zeros(len(_PARTS), len(X), dtype=torch.float64)
    for hyper, _ in settings:
        η, shrink = hyper.learning_rate, 1 - hyper.learning_rate * hyper.weight_decay
        kept = torch.where(quadratic, shrink * shrink, shrink)
        grown = torch.where(quadratic, η * η, η) * drive[0]
        parts[1] += (kept - 1) * X
        parts[4] += grown
        X = kept * X + grown
    return _End(X, C, parts)
