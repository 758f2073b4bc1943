"""All figures of a run as files in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuralmechanics.report.figures.error_curves import errors_over_time
from neuralmechanics.report.figures.law_curves import charges_and_laws
from neuralmechanics.report.figures.parameter_curves import parameters_and_charges
from neuralmechanics.report.source import RunLike, kinds, laws, raw_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.figure import Figure


def save_figures(run: RunLike, folder: str | Path, *, suffix: str = "png", dpi: int = 150) -> list[Path]:
    """Draws every figure that the run has the data for and saves it in ``folder``; the paths that were written.

    ``suffix`` is a format that matplotlib writes (png, pdf, svg).
    """
    from pathlib import Path

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in available_figures(run).items():
        path = target / f"{name}.{suffix.lstrip('.')}"
        draw(run).savefig(path, dpi=dpi, facecolor="white")
        written.append(path)
    return written


def available_figures(run: RunLike) -> dict[str, Callable[[RunLike], Figure]]:
    """The figures that the run has the data for, by file name."""
    figures: dict[str, Callable[[RunLike], Figure]] = {}
    if kinds(run.data) and raw_weights(run) is not None:
        figures["parameters_and_charges"] = parameters_and_charges
    if kinds(run.data) and laws(run.data):
        figures["charges_and_laws"] = charges_and_laws
        figures["errors_over_time"] = errors_over_time
    return figures
