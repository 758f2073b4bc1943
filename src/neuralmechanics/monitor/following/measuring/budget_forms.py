"""The parts of a charge's budget as combinations of the products that a step's drives are made of anyway.

Decay and broken symmetry are told as ⟨θ,·⟩, of which a quadratic charge has twice, a translation once: as the drive
⟨θ,d⟩ is, so that charges of θ + c, which are linear in θ too, come out right.
"""

from __future__ import annotations

import math

from torch import Tensor

from neuralmechanics.optimizers import Combination, Part, Update, combined, form

Number = float | Tensor
Products = dict[tuple[Part, Part], Number]

FINITE, DECAYED, BROKEN = "finite_step", "weight_decay", "broken_symmetry"
COMPANION, CLAIMED_ENERGY = "companion", "claimed_energy"
NONE: tuple[Products, Combination] = ({}, {})


def finite_step(update: Update) -> tuple[Products, Combination]:
    """|u|² of the step u that comes after the decay: d + ηλθ where that is decoupled, else d."""
    u = _intended(update)
    if (factor := decoupled_decay(update)) is not None:
        u = combined((1.0, u), (factor, update.before_parts()))
    return form(u, u), {}


def weight_decay(update: Update) -> tuple[Products, Combination]:
    """Decoupled ((1-ηλ)² - 1)|θ|²/2 (translations -ηλ⟨θ,1⟩); SGD's -ηaλ|θ|², Nesterov's with 1+β for a."""
    before = update.before_parts()
    if (factor := decoupled_decay(update)) is not None:
        return form(combined((factor * factor / 2 - factor, before)), before), combined((-factor, before))
    if not follows_sgd(update) or update.setting.without_decay:
        return NONE
    pull = _gain(update) * update.setting.weight_decay
    return form(combined((-pull, before)), before), combined((-pull, before))


def broken_symmetry(update: Update) -> tuple[Products, Combination]:
    """-ηa⟨g,θ⟩ of SGD, Nesterov's with 1+β for a: over the members of a charge it cancels where the symmetry holds."""
    if not follows_sgd(update) or update.left is None:
        return NONE
    gain, slope = _gain(update), update.gradient_parts()
    return form(combined((-gain, slope)), update.before_parts()), combined((-gain, slope))


def companion(update: Update) -> tuple[Products, Combination]:
    """⟨θ_{k+1}, v_{k+1}⟩, translations ⟨v,1⟩."""
    if update.velocity is None:
        return NONE
    after: Combination = {"after": 1.0}
    if update.measured:
        after = combined((1.0, update.before_parts()), (1.0, update.difference_parts()))
    return form(after, {"velocity": 1.0}), {"velocity": 1.0}


def claimed_energy(update: Update) -> tuple[Products, Combination]:
    """|d|² of the optimiser's formula."""
    parts = _intended(update)
    return form(parts, parts), {}


def decoupled_decay(update: Update) -> Number | None:
    """ηλ where the step multiplies the parameters by 1 - ηλ apart from its update; None where it does not."""
    setting = update.setting
    if not setting.decoupled or setting.without_decay:
        return None
    factor = setting.learning_rate * setting.weight_decay
    return None if isinstance(factor, float) and math.isnan(factor) else factor


def follows_sgd(update: Update) -> bool:
    """Whether the setting is that of torch's SGD: others have no number for its momentum."""
    momentum = update.setting.momentum
    return isinstance(momentum, Tensor) or not math.isnan(momentum)


def _intended(update: Update) -> Combination:
    """d by the optimiser's formula where that is known beside what was stored."""
    return update.claimed_parts() or update.difference_parts()


def _gain(update: Update) -> Number:
    """ηa of the step's own gradient: a = 1 - α, 1 on torch's first step and without momentum, 1 + β for Nesterov."""
    setting = update.setting
    if not setting.has_momentum:
        return setting.learning_rate
    if setting.nesterov:
        return setting.learning_rate * (1 + setting.momentum)
    return setting.learning_rate * (1.0 if update.first_step else 1 - setting.dampening)
