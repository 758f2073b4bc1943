"""Fig. 1: raw parameters against per-filter squared norms over training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuralmechanics.report.figures import parameters_and_charges
from neuralmechanics.report.palette import INK, literal
from neuralmechanics.report.paper.panels import run_with
from neuralmechanics.report.paper.settings import error_table, label

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.figure import Figure

    from neuralmechanics.report.source import RunLike


def fig1(runs: Sequence[RunLike]) -> tuple[Figure, pd.DataFrame]:
    """Parameters and charges of the first run with norms (else of the first run), and the errors of all laws.

    Source: Kunin et al., ICLR 2021, Fig. 1 (VGG-16-BN on Tiny ImageNet, η = .1, λ = 1e-4, batch 256).
    """
    errors = error_table(runs)
    run = run_with(runs, "scale") or runs[0]
    figure = parameters_and_charges(run)
    settings = label(run, "model", "data", "learning_rate", "weight_decay", "momentum", "batch_size")
    figure.suptitle(literal(settings), fontsize=9.5, color=INK)
    return figure, errors
