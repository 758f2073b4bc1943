"""Figures of a recorded run, as matplotlib objects without pyplot's global state."""

from neuralmechanics.report.figures.error_curves import errors_over_time
from neuralmechanics.report.figures.explained import budget_bars, findings_list, forecast_norms
from neuralmechanics.report.figures.law_curves import charges_and_laws
from neuralmechanics.report.figures.parameter_curves import parameters_and_charges
from neuralmechanics.report.figures.saving import save_figures

__all__ = [
    "budget_bars",
    "charges_and_laws",
    "errors_over_time",
    "findings_list",
    "forecast_norms",
    "parameters_and_charges",
    "save_figures",
]
