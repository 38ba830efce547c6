"""What readers see: header, findings and tables in notebooks; pages, the council pack and the list of runs."""

from __future__ import annotations

from icplab.report.comparison import render_comparison
from icplab.report.pack import render_index
from icplab.report.page import render_failure, render_page
from icplab.report.runs import render_runs
from icplab.report.show import show_findings, show_header, show_table

__all__ = [
    "render_comparison",
    "render_failure",
    "render_index",
    "render_page",
    "render_runs",
    "show_findings",
    "show_header",
    "show_table",
]
