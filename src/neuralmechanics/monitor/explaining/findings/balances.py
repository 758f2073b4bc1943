"""Findings from the budget: rounding, decay where it does nothing, rotation, symmetries that begin to break."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neuralmechanics.monitor.explaining.findings.facts import DECISIVE, LOW, Facts, Matrix
from neuralmechanics.monitor.explaining.findings.finding import Finding

_BROKEN, _ROUNDED, _FALLEN, _UNEVEN, _FAR, _JUMP = 1e-2, 1e-2, 1.5, 10.0, 3.0, 30.0
# What to do about a gradient that is not the loss's: where its elements were changed, and in general.
_OF_ELEMENTS = (
    "expect these charges to drift: what changes elements of gradients breaks every symmetry that mixes or weighs "
    "them; clipping by norm keeps them"
)
_OF_THE_LOOP = (
    "clear gradients before each backward pass, step once for each, and give find_symmetries the loss of the loop "
    "(penalties and modes too); or expect these charges to drift"
)


def rounding(facts: Facts) -> Iterator[Finding]:
    """Rounding that carries more than 1 % of a motion."""
    kept = np.isfinite(facts.motion) & (facts.motion > 0)
    rounded = np.abs(facts.books.sums["rounding"])
    # What moves by less than its own last digit a step for the whole run is at rest, and not rounded away.
    moving = kept & (facts.motion > 1e-4 * facts.data["scale"].to_numpy() * (facts.kinds != "linear"))
    mask = moving & (rounded > _ROUNDED * facts.motion)
    if not mask.any() or mask.sum() < 0.1 * moving.sum():
        return
    share = float(rounded[mask].sum() / (rounded + facts.motion)[mask].sum())
    low = sorted({p.type for p in facts.parameters if p.type in LOW})
    kind = low[0] if low else "the precision in use"
    yield Finding(
        "rounding",
        f"Rounding in {kind} carries {share:.0%} of these weights' motion: updates smaller than half of a weight's "
        "last digit are lost",
        {"share_of_motion": share, "charges": int(mask.sum()), "type": kind},
        facts.of_layers(mask),
        "keep float32 master weights (autocast rather than model.to(bfloat16)), or round stochastically",
        90 if share > 0.1 else 52,
    )


def lost_updates(facts: Facts) -> Iterator[Finding]:
    """Charges of low-precision weights that do not move at all although a gradient is there."""
    low = {p.name for p in facts.parameters if p.type in LOW}
    if not low or facts.steps == 0:
        return
    still = (facts.motion == 0) & (facts.books.gross["rounding"] == 0)
    members = np.array([all(n in low for n in f.parameters) for f in facts.symmetries.charged])
    mask = still & np.repeat(members, [f.charges for f in facts.symmetries.charged])
    if mask.sum() > 0.5 * len(mask):
        yield Finding(
            "rounding",
            "Most weights in low precision never move: every update is smaller than half of their last digit",
            {"charges": int(mask.sum()), "of": len(mask)},
            facts.of_layers(mask),
            "keep float32 master weights (autocast rather than model.to(bfloat16)), or round stochastically",
            90,
        )


def decay_of_biases_alone(facts: Facts) -> Iterator[Finding]:
    """Weight decay on vectors and none on matrices: the groups are the wrong way round."""
    held = [p for p in facts.parameters if p.weight_decay is not None]
    decayed = [p for p in held if p.weight_decay]
    matrices = [p for p in held if p.dimensions > 1]
    if decayed and matrices and all(p.dimensions <= 1 for p in decayed):
        yield Finding(
            "decay-of-biases-alone",
            f"Weight decay acts on biases and gains alone: none of the {len(matrices)} weight matrices is decayed",
            {"decayed_parameters": len(decayed), "undecayed_matrices": len(matrices)},
            tuple(p.name for p in decayed),
            "the groups look exchanged: give weight_decay to the matrices, and 0 to biases and norms",
            86,
        )


def decay_without_effect(facts: Facts) -> Iterator[Finding]:
    """Decay on nothing but weights of which only the direction matters: it sets a learning rate, and no complexity."""
    decayed = [p.name for p in facts.parameters if p.weight_decay]
    free = {n for f in facts.symmetries.of_kind("scale") for n in f.parameters}
    if decayed and all(name in free for name in decayed):
        yield Finding(
            "decay-without-effect",
            "Weight decay acts on scale-free weights alone: it does not simplify the function, it sets their effective "
            "learning rate",
            {"parameters": len(decayed)},
            tuple(decayed),
            "tune learning rate times weight decay as one number; decay the head as well where you mean to regularise",
            12,
        )


def falling_rates(facts: Facts) -> Iterator[Finding]:
    """Scale-free weights without decay, whose effective learning rate only falls."""
    mask = (facts.kinds == "scale") & (facts.books.gross["weight_decay"] == 0)
    if not mask.any() or not _no_decay(facts, mask):
        return
    first, last = facts.data["charge"][[0, -1]].to_numpy()[:, mask]
    grown = last / first
    fallen = float(np.median(grown))
    if not np.isfinite(fallen) or fallen < _FALLEN:
        return
    yield Finding(
        "scale-free-without-decay",
        f"Scale-free weights without decay: every step lengthens them, so their effective learning rate only falls "
        f"(squared norms grew {fallen:.3g} times)",
        {"growth_of_squared_norm": fallen, "charges": int(mask.sum())},
        facts.of_layers(mask),
        "add weight decay to these weights, or count the fall as part of the learning rate schedule",
        40,
    )


def _no_decay(facts: Facts, mask: Matrix) -> bool:
    """Whether no parameter of these charges is decayed: what an adaptive optimiser decays leaves no part of its own."""
    decayed = {p.name for p in facts.parameters if p.weight_decay}
    names = {n for f in facts.symmetries.charged if mask[facts.families == f.name].any() for n in f.parameters}
    return not (names & decayed)


def uneven_rotation(facts: Facts) -> Iterator[Finding]:
    """Layers of which some turn far faster than others."""
    told = facts.forecast
    if told is None or not len(told.scales):
        return
    turning = told.scales.groupby("layer", sort=False)["rotation"].median()
    turning = turning[np.isfinite(turning) & (turning > 0)]
    if len(turning) < 2 or turning.max() < _UNEVEN * turning.min():
        return
    yield Finding(
        "uneven-rotation",
        f"Layers turn unevenly: {turning.idxmax()} by {turning.max():.2g} a step, {turning.idxmin()} by "
        f"{turning.min():.2g}",
        {"ratio": float(turning.max() / turning.min()), "layers": len(turning)},
        (str(turning.idxmax()), str(turning.idxmin())),
        "decay all scale-free weights alike, or warm up longer: in equilibrium every layer turns alike",
        32,
    )


def far_from_equilibrium(facts: Facts) -> Iterator[Finding]:
    """Weights that turn far faster at the end than they will."""
    told = facts.forecast
    if told is None or not len(told.scales) or facts.steps < 200:
        return
    rows = told.scales[(told.scales["equilibrium_rotation"] > 0) & np.isfinite(told.scales["steps_to_equilibrium"])]
    if not len(rows):
        return
    ratio = float((rows["rotation"] / rows["equilibrium_rotation"]).median())
    needed = float(rows["steps_to_equilibrium"].median())
    if ratio > _FAR and needed > facts.steps:
        yield Finding(
            "far-from-equilibrium",
            f"The run ends far from equilibrium: scale-free weights turn {ratio:.2g} times as fast as they will then",
            {"ratio": ratio, "steps_to_equilibrium": needed, "steps": facts.steps},
            tuple(dict.fromkeys(rows["layer"])),
            "norms still set the learning rate here: train longer, raise weight decay, or begin with larger norms",
            22,
        )


def residual_jump(facts: Facts) -> Iterator[Finding]:
    """A symmetry that begins to break in the course of the run."""
    by_layer = facts.books.by_layer
    names = ("broken_symmetry", "finite_step", "weight_decay", "momentum_memory")
    if len(facts.ends) < 8 or not all(np.isfinite(rows).all() for n in names for rows in by_layer[n].values()):
        return
    best: tuple[float, int, Matrix] | None = None
    for layer in dict.fromkeys(facts.layers):
        mine = facts.layers == layer
        broken = by_layer["broken_symmetry"][layer]
        share = broken / np.maximum(sum(by_layer[n][layer] for n in names), 1e-300)
        for k in range(3, len(share) - 3):
            before, after = np.median(share[:k]), np.median(share[k:])
            # The rank of both sides as a whole, so that a drift is no jump.
            if after > _BROKEN and after > _JUMP * before and share[k:].min() > 3 * share[:k].max():
                if best is None or after > best[0]:
                    best = (float(after), k, mine)
                break
    if best is None:
        return
    share_after, k, mine = best
    yield Finding(
        "residual-jump",
        f"A symmetry that held begins to break by step {int(facts.ends[k])}",
        {"step": int(facts.ends[k]), "share_of_motion_after": share_after},
        facts.of_layers(mine),
        "look for what changed there: a penalty, a mode, clipping by value, a layer that was frozen",
        58,
    )


def ended_laws(facts: Facts) -> Iterator[Finding]:
    """Closed laws that end, where nothing else here says why."""
    note = facts.loop_fault
    if note is None:
        return
    cause = note.message.partition(": ")[2].partition("; the closed laws")[0]
    yield Finding(
        "law-ends",
        f"At step {note.step} the gradient ceases to obey a symmetry of the loss that was given: {cause}",
        {"step": note.step, "cause": note.subject.removeprefix("broken: ")},
        (),
        _OF_ELEMENTS if note.subject in ("broken: clipping", "broken: signs") else _OF_THE_LOOP,
        60 if note.subject in DECISIVE else 54,
    )
