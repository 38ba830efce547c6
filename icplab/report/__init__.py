"""What readers see: header, findings and tables in notebooks; pages, the council pack and the list of runs."""

from __future__ import annotations

from icplab.report.page import render_failure, render_page
from icplab.report.show import show_findings, show_header, show_table

__all__ = [
    "render_failure",
    "render_page",
    "show_findings",
    "show_header",
    "show_table",
]
