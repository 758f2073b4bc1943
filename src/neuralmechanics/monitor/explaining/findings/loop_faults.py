"""Findings about the loop: numbers that are none, modes, gradients that never come, writes, clipping."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neuralmechanics.monitor.explaining.findings.facts import MISSING, THERE, ZERO, Facts
from neuralmechanics.monitor.explaining.findings.finding import Finding
from neuralmechanics.monitor.reading.errors import finite_throughout, nonfinite_step

_MOST, _OUTSIDE, _SAME = 0.5, 1e-3, 1e-4
_SKIPPED = 0.05  # a scaler that seeks its scale skips a few steps at first


def not_finite(facts: Facts) -> Iterator[Finding]:
    """Charges that became nan or infinite."""
    step = nonfinite_step(facts.data)
    if step is None:
        return
    bad = ~finite_throughout(facts.data)
    note = facts.note("not a number")
    yield Finding(
        "not-finite",
        f"The training became nan or infinite at step {note.step if note else step}",
        {"step": note.step if note else step, "charges": int(bad.sum())},
        facts.of_layers(bad),
        "lower the learning rate, clip gradients, or resume from a checkpoint before that step",
        100,
    )


def divergence(facts: Facts) -> Iterator[Finding]:
    """Decay that is too strong for its learning rate."""
    if (note := facts.note("divergence")) is not None:
        yield Finding(
            "divergence",
            "Learning rate times weight decay is more than training can bear: weights without gradient grow",
            {"step": note.step},
            (),
            "lower learning rate or weight decay until their product is well below 1",
            101,
        )


def frozen_norms(facts: Facts) -> Iterator[Finding]:
    """Norms in evaluation mode while the weights before them train: their scale is not free then."""
    rows = facts.observed("training")
    if rows is None or not len(rows) or not facts.norms:
        return
    share = 1 - rows.mean(axis=0)
    needed = {b.where for family in facts.symmetries.of_kind("scale") for b in family.broken_by}
    names = [n for n, s in zip(facts.norms, share, strict=True) if s >= _MOST]
    concerned = [n for n in names if any(where.startswith(n) or n in where for where in needed)] or names
    if not names:
        return
    broken = np.abs(facts.books.sums["broken_symmetry"])
    scale = facts.kinds == "scale"
    moved = facts.motion[scale].sum()
    yield Finding(
        "norm-in-evaluation-mode",
        f"{len(concerned)} norm{'s' * (len(concerned) > 1)} trained in evaluation mode: frozen running statistics, so "
        "the weights before are not scale-free and no norm regulates them",
        {
            "norms": len(concerned),
            "share_of_records": float(share.max()),
            "broken_share_of_scales": float(broken[scale].sum() / moved) if moved else 0.0,
        },
        tuple(concerned),
        "call model.train() before training (evaluation code may have left eval() on), or freeze these layers too",
        92,
    )


def without_gradient(facts: Facts) -> Iterator[Finding]:
    """Parameters that never receive a gradient, or one that is zero throughout."""
    rows = facts.observed("gradient")
    if rows is None or not len(rows):
        return
    largest = rows.max(axis=0)
    names = [p.name for p in facts.parameters]
    missing = [n for n, state in zip(names, largest, strict=True) if state == MISSING]
    zero = [n for n, state in zip(names, largest, strict=True) if state == ZERO]
    if missing and (largest == THERE).any():
        yield Finding(
            "never-a-gradient",
            f"{len(missing)} parameter{'s' * (len(missing) > 1)} never received a gradient",
            {"parameters": len(missing), "records": len(rows)},
            tuple(missing),
            "use them in the loss, or freeze them with requires_grad_(False) and leave them out of the optimiser",
            82,
        )
    if zero:
        yield Finding(
            "zero-gradient",
            f"the gradient of {len(zero)} parameter{'s' * (len(zero) > 1)} was exactly zero at every record",
            {"parameters": len(zero), "records": len(rows)},
            tuple(zero),
            "look for a detach(), a dead activation or a branch that is never taken in front of them",
            78,
        )


def held_by_none(facts: Facts) -> Iterator[Finding]:
    """Parameters that receive gradients and stand still, because no optimiser holds them."""
    gradients, held = facts.observed("gradient"), facts.observed("held")
    if gradients is None or held is None or not len(held):
        return
    names = [p.name for p in facts.parameters]
    known = zip(names, gradients.max(axis=0), held.max(axis=0), strict=True)
    if left := [name for name, state, one in known if state == THERE and not one]:
        yield Finding(
            "held-by-no-optimiser",
            f"{len(left)} parameter{'s' * (len(left) > 1)} received gradients and no optimiser holds "
            f"{'them' if len(left) > 1 else 'it'}",
            {"parameters": len(left), "of": len(names), "records": len(held)},
            tuple(left),
            "give them to the optimiser (or its optimiser to the monitor), or freeze them with requires_grad_(False)",
            70,
        )


def rates_of_zero(facts: Facts) -> Iterator[Finding]:
    """Charges whose learning rate is zero at every record behind the first: their weights stand still."""
    moved = facts.data[["learning_rate", "active"]].isel(step=slice(1, None))
    rate = moved["learning_rate"].where(moved["active"] != 0)  # what no optimiser moves has none
    if not rate.sizes["step"]:
        return
    still = (rate.isel(step=[0, rate.sizes["step"] // 2, -1]) == 0).all("step").to_numpy()
    if still.any():
        still[still] = (rate.isel(charge=np.flatnonzero(still)) == 0).all("step").to_numpy()
    if still.any():
        whose = "of these weights" if not still.all() else "of all weights"
        yield Finding(
            "rate-of-zero",
            f"The learning rate {whose} is zero at every record: they receive gradients and stand still",
            {"charges": int(still.sum()), "of": len(still), "records": rate.sizes["step"]},
            facts.of_layers(still),
            "give their parameter group a learning rate, or freeze them with requires_grad_(False)",
            71,
        )


def outside_writes(facts: Facts) -> Iterator[Finding]:
    """What something else than the optimiser wrote."""
    moved = facts.books.gross["outside"]
    mask = moved > _OUTSIDE * facts.data["scale"].to_numpy()
    if mask.any() and np.isfinite(moved).all():
        share = float(moved[mask].sum() / np.maximum((facts.motion + moved)[mask].sum(), 1e-300))
        yield Finding(
            "outside-writes",
            "Something other than the optimiser writes these weights between steps",
            {"share_of_motion": share, "charges": int(mask.sum())},
            facts.of_layers(mask),
            "expected of projections, averages and loaded weights; else look for writes through .data",
            62,
        )


def clipping(facts: Facts) -> Iterator[Finding]:
    """Gradients that end at one length again and again, unless their elements have one size: that fixes the length."""
    rows = facts.observed("gradient_norm")
    if facts.loop_fault is not None and facts.loop_fault.subject in ("broken: clipping", "broken: signs"):
        return
    if rows is None or len(rows) < 5 or not np.isfinite(rows).any():
        return
    largest = float(np.nanmax(rows))
    share = float((rows >= largest * (1 - _SAME)).mean())
    if largest > 0 and share >= 0.3:
        yield Finding(
            "clipping",
            f"Gradients are clipped to {largest:.3g} in {share:.0%} of the steps",
            {"share_of_records": share, "length": largest, "records": len(rows)},
            (),
            "with most steps clipped the learning rate is what sets their length: raise the bound or lower the rate",
            42,
        )


def skipped_steps(facts: Facts) -> Iterator[Finding]:
    """Steps that a gradient scaler skipped because gradients had overflowed."""
    rows = facts.observed("skipped")
    if rows is None or facts.steps == 0:
        return
    skipped = int(rows.sum())
    share = skipped / (skipped + facts.steps)
    if share >= _SKIPPED:
        yield Finding(
            "skipped-steps",
            f"{share:.0%} of the iterations made no step: gradients overflowed in float16, and the scaler skipped them",
            {"skipped": skipped, "steps": facts.steps},
            (),
            "begin with a smaller scale (GradScaler(init_scale=...)), let it grow more slowly (growth_interval=2000), "
            "or compute in bfloat16, which needs no scaler",
            64,
        )


def without_steps(facts: Facts) -> Iterator[Finding]:
    """A run in which no optimiser stepped."""
    yield Finding(
        "no-step",
        "No step of the optimiser was seen: nothing was trained, or by another optimiser than the one given",
        {"records": len(facts.data["step"])},
        (),
        "give the monitor the optimiser whose step() the loop calls; a gradient scaler that finds every gradient "
        "infinite calls none: begin with a smaller scale",
        95,
    )
