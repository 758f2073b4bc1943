"""The HTML page of a run: one offline file with zoomable figures, tables and the configuration."""

from neuralmechanics.report.page.write import write_report

__all__ = ["write_report"]
