"""Reads this run, the one before, the plan and the council's register; makes what changed and what to decide."""

from icplab.governance.maturity import assess_maturity, list_present
from icplab.governance.review import (
    Review,
    backtest_tiers,
    check_register,
    compare_kpis,
    compare_tiers,
    findings,
    hash_decision,
    measure_plan,
    review_decisions,
    watch_plan,
    watch_rate,
)

__all__ = [
    "Review",
    "assess_maturity",
    "backtest_tiers",
    "check_register",
    "compare_kpis",
    "compare_tiers",
    "findings",
    "hash_decision",
    "list_present",
    "measure_plan",
    "review_decisions",
    "watch_plan",
    "watch_rate",
]
