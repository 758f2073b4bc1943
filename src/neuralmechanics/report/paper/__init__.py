"""The paper's figures from recorded runs, each with the table of errors that the paper does not have."""

from neuralmechanics.report.paper.fig1 import fig1
from neuralmechanics.report.paper.fig5 import fig5
from neuralmechanics.report.paper.momentum import momentum
from neuralmechanics.report.paper.performance import performance
from neuralmechanics.report.paper.phase import phase
from neuralmechanics.report.paper.saving import RUN_FIGURES, save_paper_figure
from neuralmechanics.report.paper.schedules import schedules
from neuralmechanics.report.paper.sums import sums

__all__ = [
    "RUN_FIGURES",
    "fig1",
    "fig5",
    "momentum",
    "performance",
    "phase",
    "save_paper_figure",
    "schedules",
    "sums",
]
