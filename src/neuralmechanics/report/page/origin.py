"""Where the numbers of a page come from: the run's title and size, its settings, how it was made, what to cite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from neuralmechanics.report.source import RunLike, configuration, laws, steps
from neuralmechanics.report.tables import flat

if TYPE_CHECKING:
    import pandas as pd

_PAPER = (
    "Kunin, Sagastuy-Brena, Ganguli, Yamins, Tanaka: Neural Mechanics: Symmetry and Broken Conservation Laws in Deep "
    "Learning Dynamics. ICLR 2021. arXiv:2012.04728"
)
_FLOWS = "Barrett, Dherin: Implicit Gradient Regularization. ICLR 2021 (modified loss and flow)"
_ROTATION = (
    "Kosson, Messmer, Jaggi: Rotational Equilibrium: How Weight Decay Balances Learning Across Neural Networks. ICML "
    "2024 (forecasts, rotation)",
    "Wan, Zhu, Zhang, Sun: Spherical Motion Dynamics: Learning Dynamics of Normalized Neural Network using SGD and "
    "Weight Decay. NeurIPS 2021 (forecasts, rotation)",
)
_BALANCE = "Ziyin, Wang, Li, Wu: Law of Balance and Stationary Distribution of SGD. 2023 (rescale charges under noise)"


def title_of(run: RunLike) -> str:
    """Model and data where they are known, else the run's folder."""
    trained = dict(flat(configuration(run)))
    named = [trained[key] for key in ("model", "data") if trained.get(key)]
    return " on ".join(named) or "neuralmechanics run"


def facts(run: RunLike, found: pd.DataFrame) -> list[tuple[str, str]]:
    """Numbers for the head of the page: value and what it counts."""
    step = steps(run.data)
    counted = [("families of symmetries", f"{len(found)}"), ("charges", f"{run.data.sizes.get('charge', 0)}")]
    return [*counted, ("records", f"{len(step)}"), ("steps", f"{int(step[-1])}")]


def settings(run: RunLike) -> Iterator[tuple[str, str]]:
    """The configuration and the origin of a run as dotted names and texts."""
    trained = configuration(run)
    yield from flat(trained)
    # Beside the training's own configuration the monitor's says what it saw of the optimiser.
    if trained is not run.config:
        yield from flat(run.config, "monitored")
    yield from flat(getattr(run, "origin", None) or {}, "origin")


def remarks(symmetries: Any) -> Iterator[str]:
    """What the search for symmetries leaves open."""
    for operation in getattr(symmetries, "unknown", ()):
        yield f"No rule for {operation}: nothing is claimed there."
    yield from map(str, getattr(symmetries, "notes", ()))


def made(run: RunLike) -> list[str]:
    """How the numbers were made, a sentence each."""
    told = [
        "Symmetries: read off the model's captured graph; what has no rule there is claimed nothing of.",
        "Charges: measured in float64 from the stored parameters at every record.",
        "Laws: predicted from the charges at the start and from what was measured at every step, never fitted. Errors "
        "are relative to the size of a charge at the start.",
        "Budget: kept at every step from what the laws read anyway; its causes add up to the measured change.",
        "Forecasts: learned from the records alone; intervals are two standard errors.",
        "Lines are thinned to a few hundred of the records, in single precision; the run's own data has all of them.",
    ]
    return told if laws(run.data) else [told[0], told[1], told[-1]]


def to_cite(names: Sequence[str], *, forecast: bool, rescale: bool) -> list[str]:
    """The papers behind what a page shows: of these laws, with a forecast or without, with rescale charges or without.

    >>> len(to_cite(["exact"], forecast=False, rescale=False))
    1
    """
    cited = [_PAPER]
    if {"modified_flow", "modified_loss"} & set(names):
        cited.append(_FLOWS)
    return [*cited, *(_ROTATION if forecast else ()), *((_BALANCE,) if forecast and rescale else ())]
