"""Reads settings, the intake's books and account tables, makes the analysis plan, coverage and what these data can tell."""

from icplab.align.coverage import measure_coverage, show_outcomes
from icplab.align.found import findings
from icplab.align.plan import (
    build_ledger,
    compare_plans,
    draft_plan,
    list_goals,
    list_rules,
    say_rejects,
    show_ledger,
)
from icplab.align.reach import measure_reach, show_reach
from icplab.align.weigh import margins_of, measure_sensitivity, rank_by_goals, say_order, show_leaders, weigh_goals

__all__ = [
    "build_ledger",
    "compare_plans",
    "draft_plan",
    "findings",
    "list_goals",
    "list_rules",
    "margins_of",
    "measure_coverage",
    "measure_reach",
    "measure_sensitivity",
    "rank_by_goals",
    "say_order",
    "say_rejects",
    "show_leaders",
    "show_ledger",
    "show_outcomes",
    "show_reach",
    "weigh_goals",
]
