"""Findings about constants of the model, such as a norm's eps, that have come to break its symmetries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neuralmechanics.monitor.explaining.findings.facts import LOW, Facts, Matrix
from neuralmechanics.monitor.explaining.findings.finding import Finding
from neuralmechanics.monitor.explaining.forecasting.optimiser import motion_of
from neuralmechanics.monitor.reading.rows import few

_BROKEN = 1e-2


def broken_by_a_constant(facts: Facts) -> Iterator[Finding]:
    """A norm's eps that is no longer small: its share of the budget, and how much of the law's error it explains."""
    broken = facts.books.gross["broken_symmetry"]
    gross = sum(facts.books.gross[name] for name in ("finite_step", "weight_decay", "momentum_memory"))
    for family in facts.symmetries.charged:
        mine = facts.families == family.name
        share = float(broken[mine].sum() / max(float((broken + gross)[mine].sum()), 1e-300))
        moved = np.abs(facts.books.sums["broken_symmetry"]) / facts.data["scale"].to_numpy()
        drift = float(moved[mine].mean())
        if not family.broken_by or not max(share, drift) >= _BROKEN:
            continue
        if facts.note("broken: mode") or facts.loop_fault:
            continue
        if any(p.type in LOW for p in facts.parameters) and facts.note("broken: constant") is None:
            continue  # gradients of few digits obey no symmetry to one part in a hundred
        constant = family.broken_by[0]
        error, explained = _law_error(facts, mine)
        evidence: dict[str, float | int | str] = {"share_of_motion": share, "drift_of_the_charges": drift}
        if error > 0:
            evidence |= {"error_of_the_exact_law": error, "explained_by_it": explained}
        yield Finding(
            "broken-by-constant",
            f"{constant} breaks the scale symmetry: what it is added to has become small beside it, which moved "
            f"squared norms by {drift:.1%} of what they were",
            evidence,
            facts.of_layers(mine),
            f"lower {constant.constant}, or weight decay, which shrinks the weights; the exact law ends here",
            56 + min(drift, 1.0),
        )


def tilted_gradients(facts: Facts) -> Iterator[Finding]:
    """The same under Adam and its kin, whose budget has no part of its own for it: gradients not perpendicular to θ.

    |⟨g,θ_A⟩|/(|g||θ_A|) with g the whole gradient is at most the cosine, and rounding alone for an exact symmetry.
    """
    lengths = facts.observed("gradient_norm")
    if lengths is None or "residual" not in facts.data or facts.note("broken: mode") or facts.loop_fault:
        return
    if any(p.type in LOW for p in facts.parameters):
        return
    residual = np.abs(facts.data["residual"].to_numpy())
    there = ~np.isnan(residual).all(axis=1)
    if not len(lengths) or there.sum() < len(lengths):
        return
    charge, residual = facts.data["charge"].to_numpy()[there][-len(lengths) :], residual[there][-len(lengths) :]
    size = lengths.reshape(-1, 1) * np.sqrt(np.maximum(charge, 0.0))
    cosine = np.median((residual / np.where(size > 0, size, np.inf))[len(lengths) // 2 :], axis=0)
    for family in facts.symmetries.charged:
        mine = facts.families == family.name
        if family.kind != "scale" or not family.broken_by or facts.books.gross["broken_symmetry"][mine].any():
            continue
        if float(cosine[mine].max()) >= _BROKEN:
            constant = family.broken_by[0]
            yield Finding(
                "broken-by-constant",
                f"{constant} breaks the scale symmetry: gradients are not perpendicular to these weights any more, so "
                "that the loss moves their norm, too",
                {"cosine": float(cosine[mine].max()), "charges": int(mine.sum())},
                facts.of_layers(mine),
                f"lower {constant.constant}, or weight decay, which shrinks the weights",
                50,
            )


def _law_error(facts: Facts, mine: Matrix) -> tuple[float, float]:
    """The exact law's largest error while it speaks, and the part of it that the broken parts add up to.

    What breaks the symmetry is carried on by momentum and then decays as all does: δ ← e^{-rate} δ + broken. Of very
    many charges an even choice is asked.
    """
    laws = list(facts.data["law"].to_numpy())
    if "exact" not in laws:
        return 0.0, 0.0
    mine = few(np.flatnonzero(mine), len(facts.ends))
    charge = facts.data["charge"].isel(charge=mine).to_numpy()
    told = facts.data["predicted"].isel(law=laws.index("exact"), charge=mine).to_numpy()
    rows = np.searchsorted(facts.data["step"].to_numpy(), facts.ends)
    error = (charge - told)[rows]
    change = facts.budget["change"].isel(charge=mine)
    decay, broken = (change.sel(part=name).to_numpy() for name in ("weight_decay", "broken_symmetry"))
    before = charge[rows - 1]
    try:
        lasting = motion_of(facts.run.config).decay_share
    except ValueError:
        return 0.0, 0.0
    middle = (before + charge[rows]) / 2
    rate = -decay / np.where(middle == 0, 1.0, middle)
    delta, path = np.zeros(error.shape[1]), []
    for r, b in zip(rate * lasting, broken * lasting, strict=True):
        delta = np.exp(-r) * delta + np.exp(-r / 2) * b
        path.append(delta.copy())
    known = ~np.isnan(error).any(axis=1)
    if not known.any():
        return 0.0, 0.0
    last = int(np.flatnonzero(known)[-1])
    size = np.abs(error[last]).sum()
    scale = facts.data["scale"].to_numpy()[mine]
    explained = 1 - np.abs(error[last] - path[last]).sum() / size if size > 0 else 0.0
    return float((np.abs(error[known]) / scale).max()), float(explained)
