"""Reads account and opportunity tables with their money and funnel tables, makes `kpis`: key figures with intervals.

Every figure carries its basis, the observations behind it, an interval from resampling account families and a status.
"""

from icplab.performance.compare import compare_standardised
from icplab.performance.cuts import build_levels, choose_cuts, quarter_of
from icplab.performance.found import findings
from icplab.performance.kpis import measure_kpis, show_curve_table

__all__ = [
    "build_levels",
    "choose_cuts",
    "compare_standardised",
    "findings",
    "measure_kpis",
    "quarter_of",
    "show_curve_table",
]
