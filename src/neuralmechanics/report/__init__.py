"""Pictures, tables and the HTML page of a recorded run. Nothing is computed here that a user could want as data."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuralmechanics.report.figures import (
        budget_bars,
        charges_and_laws,
        errors_over_time,
        findings_list,
        forecast_norms,
        parameters_and_charges,
        save_figures,
    )
    from neuralmechanics.report.page import write_comparison, write_report
    from neuralmechanics.report.tables import errors_by_law, nonfinite_remark, symmetries_found, text_table

# Matplotlib and Jinja load with the first picture or page, not with the package.
_EXPORTS = {
    "forecast_norms": "neuralmechanics.report.figures",
    "findings_list": "neuralmechanics.report.figures",
    "budget_bars": "neuralmechanics.report.figures",
    "charges_and_laws": "neuralmechanics.report.figures",
    "errors_over_time": "neuralmechanics.report.figures",
    "parameters_and_charges": "neuralmechanics.report.figures",
    "save_figures": "neuralmechanics.report.figures",
    "write_comparison": "neuralmechanics.report.page",
    "write_report": "neuralmechanics.report.page",
    "errors_by_law": "neuralmechanics.report.tables",
    "nonfinite_remark": "neuralmechanics.report.tables",
    "symmetries_found": "neuralmechanics.report.tables",
    "text_table": "neuralmechanics.report.tables",
}

__all__ = [
    "budget_bars",
    "charges_and_laws",
    "errors_by_law",
    "errors_over_time",
    "findings_list",
    "forecast_norms",
    "nonfinite_remark",
    "parameters_and_charges",
    "save_figures",
    "symmetries_found",
    "text_table",
    "write_comparison",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    if name in ("figures", "page", "tables"):
        return importlib.import_module(f"neuralmechanics.report.{name}")
    raise AttributeError(f"module 'neuralmechanics.report' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
