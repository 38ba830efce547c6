"""Reads settings, the intake's books and account tables, makes the analysis plan, coverage and what these data can tell."""

from icplab.align.coverage import measure_coverage, show_outcomes
from icplab.align.found import findings
from icplab.align.plan import build_ledger, draft_plan, list_goals, list_rules
from icplab.align.reach import measure_reach, show_reach

__all__ = [
    "build_ledger",
    "draft_plan",
    "findings",
    "list_goals",
    "list_rules",
    "measure_coverage",
    "measure_reach",
    "show_outcomes",
    "show_reach",
]
