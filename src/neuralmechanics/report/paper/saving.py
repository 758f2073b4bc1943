"""A paper figure and its table of errors as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neuralmechanics.report.paper.fig1 import fig1
from neuralmechanics.report.paper.fig5 import fig5
from neuralmechanics.report.paper.momentum import momentum
from neuralmechanics.report.paper.performance import performance
from neuralmechanics.report.paper.phase import phase
from neuralmechanics.report.paper.schedules import schedules
from neuralmechanics.report.paper.sums import sums

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from neuralmechanics.report.source import RunLike

# The figures that are drawn from runs; fig2, fig3 and fig4 need none (`report.theory`).
RUN_FIGURES: dict[str, Callable[[Sequence[RunLike]], tuple[Figure, pd.DataFrame]]] = {
    "fig1": fig1,
    "fig5": fig5,
    "momentum": momentum,
    "performance": performance,
    "phase": phase,
    "schedules": schedules,
    "sums": sums,
}


def save_paper_figure(name: str, runs: Sequence[RunLike], folder: str | Path, *, dpi: int = 150) -> list[Path]:
    """Draws figure ``name`` from ``runs``; writes ``<name>.png`` and its errors ``<name>.csv``; the two paths."""
    if name not in RUN_FIGURES:
        raise ValueError(f"no figure {name!r} is drawn from runs; those that are: {', '.join(RUN_FIGURES)}")
    figure, errors = RUN_FIGURES[name](runs)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    picture, table = target / f"{name}.png", target / f"{name}.csv"
    figure.savefig(picture, dpi=dpi, facecolor="white")
    errors.to_csv(table, index=False)
    return [picture, table]
