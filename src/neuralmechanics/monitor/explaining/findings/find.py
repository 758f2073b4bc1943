"""All findings of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from neuralmechanics.monitor.explaining.findings import balances, constants, loop_faults
from neuralmechanics.monitor.explaining.findings.facts import Facts
from neuralmechanics.monitor.explaining.findings.finding import Finding, ranked
from neuralmechanics.monitor.store.source import RunSource

if TYPE_CHECKING:
    from neuralmechanics.monitor.reading.run import Run

MOST = 10
_CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    loop_faults.not_finite,
    loop_faults.divergence,
    loop_faults.frozen_norms,
    loop_faults.without_gradient,
    loop_faults.held_by_none,
    loop_faults.rates_of_zero,
    loop_faults.outside_writes,
    loop_faults.clipping,
    loop_faults.skipped_steps,
    constants.broken_by_a_constant,
    constants.tilted_gradients,
    balances.rounding,
    balances.lost_updates,
    balances.decay_of_biases_alone,
    balances.decay_without_effect,
    balances.falling_rates,
    balances.uneven_rotation,
    balances.far_from_equilibrium,
    balances.residual_jump,
    balances.ended_laws,
)
# A cause that explains another finding stands for it.
_EXPLAINED = {
    "divergence": ("not-finite", "rounding", "residual-jump", "uneven-rotation", "far-from-equilibrium"),
    "not-finite": ("rounding", "residual-jump", "uneven-rotation", "far-from-equilibrium"),
    "norm-in-evaluation-mode": ("law-ends", "broken-by-constant", "residual-jump", "uneven-rotation"),
    "broken-by-constant": ("law-ends", "uneven-rotation"),
    "rounding": ("law-ends", "residual-jump", "uneven-rotation", "broken-by-constant", "far-from-equilibrium"),
    "residual-jump": ("law-ends", "broken-by-constant"),
    "never-a-gradient": (),
    "decay-of-biases-alone": ("scale-free-without-decay", "decay-without-effect"),
}


def findings(run: Run, source: RunSource) -> list[Finding]:
    """At most ten, the gravest first; what a graver one explains is left out."""
    facts = Facts(run, source)
    if facts.steps == 0:
        return list(loop_faults.without_steps(facts))
    found = ranked((finding for check in _CHECKS for finding in check(facts)), len(_CHECKS))
    codes = {finding.code for finding in found}
    explained = {code for cause in codes for code in _EXPLAINED.get(cause, ())}
    return [finding for finding in found if finding.code not in explained][:MOST]
