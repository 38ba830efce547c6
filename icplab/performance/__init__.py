"""Reads account and opportunity tables with their money and funnel tables, makes `kpis`: key figures with intervals.

Every figure carries its basis, the observations behind it, an interval from resampling account families and a status.
"""

from icplab.performance.causes import name_causes
from icplab.performance.cells import choose_cube, compare_cells
from icplab.performance.compare import compare_cuts, compare_standardised
from icplab.performance.cost import compare_allocations
from icplab.performance.cuts import build_levels, choose_cuts, quarter_of, usual_cuts
from icplab.performance.facts import say_window
from icplab.performance.forecast import find_forecast, forecast_wins, measure_errors, track_forecasts
from icplab.performance.found import find_plan_gaps, find_segment_gaps, findings
from icplab.performance.impact import find_impact, measure_impact, show_conversions
from icplab.performance.journey import measure_journey
from icplab.performance.kpis import build_curves, build_forest, list_figures, measure_cuts, measure_kpis
from icplab.performance.landscape import WON_BY, WORTH, compare_landscape, compare_levels, print_levels
from icplab.performance.levels import place_opportunities
from icplab.performance.outside import list_outside_figures
from icplab.performance.paper import compare_claims, find_paper, list_claims
from icplab.performance.pictures import (
    draw_amounts,
    draw_cohorts,
    draw_curves,
    draw_forest,
    draw_funnel,
    draw_quarters,
    draw_retention_steps,
    draw_shares,
)
from icplab.performance.plays import measure_meetings, measure_plays
from icplab.performance.ranks import compare_pairs, compare_quarters, rank_levels
from icplab.performance.sellers import find_seller_mix, measure_sellers
from icplab.performance.signals import find_signals, place_evidence, review_signals
from icplab.performance.velocity import SHARES, compare_shares

__all__ = [
    "SHARES",
    "WON_BY",
    "WORTH",
    "build_curves",
    "build_forest",
    "build_levels",
    "choose_cube",
    "choose_cuts",
    "compare_allocations",
    "compare_cells",
    "compare_claims",
    "compare_cuts",
    "compare_landscape",
    "compare_levels",
    "compare_pairs",
    "compare_quarters",
    "compare_shares",
    "compare_standardised",
    "draw_amounts",
    "draw_cohorts",
    "draw_curves",
    "draw_forest",
    "draw_funnel",
    "draw_quarters",
    "draw_retention_steps",
    "draw_shares",
    "find_forecast",
    "find_impact",
    "find_paper",
    "find_plan_gaps",
    "find_segment_gaps",
    "find_seller_mix",
    "find_signals",
    "findings",
    "forecast_wins",
    "list_claims",
    "list_figures",
    "list_outside_figures",
    "measure_cuts",
    "measure_errors",
    "measure_impact",
    "measure_journey",
    "measure_kpis",
    "measure_meetings",
    "measure_plays",
    "measure_sellers",
    "name_causes",
    "place_evidence",
    "place_opportunities",
    "print_levels",
    "quarter_of",
    "rank_levels",
    "review_signals",
    "say_window",
    "show_conversions",
    "track_forecasts",
    "usual_cuts",
]
