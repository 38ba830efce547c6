"""Reads account table, opportunities and segments, makes `traits` and `icps`: what the best accounts have in common."""

from icplab.traits.audit import audit_leaks
from icplab.traits.effects import measure_traits
from icplab.traits.profiles import draft_icps, measure_leading_indicators, measure_roles
from icplab.traits.rules import match_icp
from icplab.traits.sentences import findings
from icplab.traits.tables import (
    card_table,
    compare_segments,
    count_verdicts,
    forest_table,
    list_audit,
    list_winning,
    measure_icp,
    other_outcomes,
)

__all__ = [
    "audit_leaks",
    "card_table",
    "compare_segments",
    "count_verdicts",
    "draft_icps",
    "findings",
    "forest_table",
    "list_audit",
    "list_winning",
    "match_icp",
    "measure_icp",
    "measure_leading_indicators",
    "measure_roles",
    "measure_traits",
    "other_outcomes",
]
