"""Reads estimate tables, makes charts: every chart is titled with its finding and can say its numbers aloud.

The only place where matplotlib and seaborn are used, and both load with the first chart, not with this import.
"""

from __future__ import annotations

from icplab.core.charts.chart import Chart, without_title
from icplab.core.charts.fields import matrix_chart, scatter_chart
from icplab.core.charts.rows import bar_chart, interval_chart
from icplab.core.charts.series import line_chart, step_chart
from icplab.core.charts.shapes import funnel_chart, waterfall_chart

__all__ = [
    "Chart",
    "bar_chart",
    "funnel_chart",
    "interval_chart",
    "line_chart",
    "matrix_chart",
    "scatter_chart",
    "step_chart",
    "waterfall_chart",
    "without_title",
]
