"""The drives of an update as combinations of a few products of what torch leaves behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.monitor.following.measuring import budget_forms
from neuralmechanics.optimizers import Combination, Part, Update, combined, form
from neuralmechanics.slices import Bilinear, Recipe

Number = float | Tensor
# The order in which the operands of a matrix stand; the library knows the pairs of the first three by heart.
_ORDER: tuple[Part, ...] = ("velocity", "moved", "after", "before", "gradient", "adam", "adam_slope")
_PLAIN: tuple[Part, ...] = ("gradient", "after", "moved", "before", "velocity", "adam", "adam_slope")


@dataclass(frozen=True, eq=False)
class Forms:
    """The tensors that are read, and what is made of their products."""

    parts: tuple[Part, ...]
    recipe: Recipe


@dataclass(frozen=True, eq=False)
class _Drive:
    """One drive of one update: Σ c ⟨t,u⟩ for quadratic charges, Σ c ⟨t,1_A⟩ for translations."""

    products: Mapping[tuple[Part, Part], Number]
    sums: Combination


_NOTHING = _Drive({}, {})
_UNKNOWN = _Drive({("after", "after"): math.nan}, {"after": math.nan})


def recipe_of(update: Update, wanted: Sequence[str]) -> Forms:
    """What has to be read of an update, and the wanted drives as combinations of it, one form each."""
    drives = [_DRIVES[name](update) for name in wanted]
    found = {part for drive in drives for pair in drive.products for part in pair}
    found |= {part for drive in drives for part in drive.sums}
    order = _ORDER if "velocity" in found or "moved" in found else _PLAIN
    parts = tuple(part for part in order if part in found)
    return Forms(parts, Recipe(_quadratic(drives, parts), _linear(drives, parts)))


def _quadratic(drives: Sequence[_Drive], parts: Sequence[Part]) -> Bilinear:
    place = {part: number for number, part in enumerate(parts)}

    def numbers(pair: tuple[Part, Part]) -> tuple[int, int]:
        a, b = sorted((place[pair[0]], place[pair[1]]))
        return b, a

    tables = [{numbers(pair): c for pair, c in drive.products.items()} for drive in drives]
    pairs = tuple(sorted({pair for table in tables for pair in table}))
    return Bilinear(pairs, _table([[table.get(pair, 0.0) for pair in pairs] for table in tables]))


def _linear(drives: Sequence[_Drive], parts: Sequence[Part]) -> Bilinear:
    summed = {part for drive in drives for part in drive.sums}
    used = [part for part in parts if part in summed]
    rows = [[drive.sums.get(part, 0.0) for part in used] for drive in drives]
    return Bilinear(tuple((parts.index(part), -1) for part in used), _table(rows))


def _table(rows: Sequence[Sequence[Number]]) -> np.ndarray | Tensor:
    """Coefficients as an array; where some live on an accelerator, as a tensor there, so that nothing waits."""
    devices = {c.device for row in rows for c in row if isinstance(c, Tensor)}
    if not devices:
        return np.array(rows, dtype=np.float64).reshape(len(rows), -1)
    device = devices.pop()

    def number(c: Number) -> Tensor:
        return c.double() if isinstance(c, Tensor) else torch.full((), c, dtype=torch.float64, device=device)

    return torch.stack([torch.stack([number(c) for c in row]) for row in rows])


def _update_energy(update: Update) -> _Drive:
    d = update.difference_parts()
    return _Drive(form(d, d), {})


def _parameter_update(update: Update) -> _Drive:
    d = update.difference_parts()
    return _Drive(form(update.before_parts(), d), d)


def _update_velocity(update: Update) -> _Drive:
    if update.velocity is None:
        return _NOTHING
    return _Drive(form(update.difference_parts(), {"velocity": 1.0}), {})


def _residual(update: Update) -> _Drive:
    if update.lost:
        return _UNKNOWN
    if update.left is None:
        return _NOTHING
    g = update.gradient_parts()
    return _Drive(form(g, update.before_parts()), g)


def _gradient_energy(update: Update) -> _Drive:
    if update.left is None:
        return _NOTHING
    g = update.gradient_parts()
    products = form(g, g)
    if update.addend:  # the square of a sum is not the sum of squares: nobody knows it without the other processes
        products = dict.fromkeys(products, math.nan)
    return _Drive(products, {})


def _velocity_gradient(update: Update) -> _Drive:
    if update.left is None or update.velocity is None:
        return _NOTHING
    return _Drive(form({"velocity": 1.0}, update.gradient_parts()), {})


def _velocity_energy(update: Update) -> _Drive:
    return _NOTHING if update.velocity is None else _Drive({("velocity", "velocity"): 1.0}, {})


def _decay(update: Update) -> _Drive:
    if update.setting.without_decay:
        return _NOTHING
    pull = combined((update.setting.weight_decay, update.before_parts()))
    return _Drive(form(pull, update.before_parts()), pull)


def _rated_pull(update: Update) -> _Drive:
    """η(λ|θ|² + ρ) of a parameter, whose η is its own."""
    if update.left is None:  # the gradient is gone, and with it ρ
        return _UNKNOWN
    slope = update.gradient_parts()
    if not update.setting.without_decay:
        slope = combined((1.0, slope), (update.setting.weight_decay, update.before_parts()))
    rated = combined((update.setting.learning_rate, slope))
    return _Drive(form(rated, update.before_parts()), rated)


def _rated_velocity(update: Update) -> _Drive:
    if update.velocity is None:
        return _NOTHING
    return _Drive(form(update.difference_parts(), {"velocity": update.setting.learning_rate}), {})


def _rated_companion(update: Update) -> _Drive:
    """Measured before a step, where ratios of rates have changed."""
    return _NOTHING


def _done(update: Update) -> _Drive:
    """⟨θ,d⟩ + |d|²/2 of what the step did, where the optimiser's formula is asked beside it."""
    return _change(update, update.difference_parts()) if update.claimed_parts() is not None else _NOTHING


def _claimed(update: Update) -> _Drive:
    """⟨θ,d⟩ + |d|²/2 of what the formula says."""
    parts = update.claimed_parts()
    return _NOTHING if parts is None else _change(update, parts)


def _change(update: Update, d: Combination) -> _Drive:
    return _Drive(form(d, combined((1.0, update.before_parts()), (0.5, d))), d)


def _of_budget(part: Callable[[Update], tuple[budget_forms.Products, Combination]]) -> Callable[[Update], _Drive]:
    return lambda update: _Drive(*part(update))


_DRIVES: Mapping[str, Callable[[Update], _Drive]] = {
    "update_energy": _update_energy,
    "parameter_update": _parameter_update,
    "update_velocity": _update_velocity,
    "residual": _residual,
    "gradient_energy": _gradient_energy,
    "velocity_gradient": _velocity_gradient,
    "velocity_energy": _velocity_energy,
    "decay": _decay,
    "rated_pull": _rated_pull,
    "rated_velocity": _rated_velocity,
    "rated_companion": _rated_companion,
    "done": _done,
    "claimed": _claimed,
    budget_forms.FINITE: _of_budget(budget_forms.finite_step),
    budget_forms.DECAYED: _of_budget(budget_forms.weight_decay),
    budget_forms.BROKEN: _of_budget(budget_forms.broken_symmetry),
    budget_forms.COMPANION: _of_budget(budget_forms.companion),
    budget_forms.CLAIMED_ENERGY: _of_budget(budget_forms.claimed_energy),
}
