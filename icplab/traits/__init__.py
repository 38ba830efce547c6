"""Reads account table, opportunities and segments, makes `traits` and `icps`: what the best accounts have in common."""

from icplab.traits.audit import audit_leaks
from icplab.traits.effects import measure_traits
from icplab.traits.profiles import draft_icps, measure_leading_indicators, measure_roles
from icplab.traits.rules import match_icp
from icplab.traits.sentences import findings

__all__ = [
    "audit_leaks",
    "draft_icps",
    "findings",
    "match_icp",
    "measure_leading_indicators",
    "measure_roles",
    "measure_traits",
]
