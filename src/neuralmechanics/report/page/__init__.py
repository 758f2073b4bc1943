"""The HTML page of a run, or of several over one another: one offline file with figures, tables and filters."""

from neuralmechanics.report.page.side_by_side import write_comparison
from neuralmechanics.report.page.write import write_report

__all__ = ["write_comparison", "write_report"]
