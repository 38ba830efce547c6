"""Reads account table, opportunities and segments, makes `traits` and `icps`: what the best accounts have in common."""

from icplab.traits.audit import audit_leaks
from icplab.traits.cards import card_table
from icplab.traits.compare import compare_icps, measure_yield
from icplab.traits.deltas import measure_icp_delta
from icplab.traits.effects import measure_traits
from icplab.traits.evidence import Evidence, show_evidence
from icplab.traits.indicators import measure_leading_indicators
from icplab.traits.pairs import search_pairs
from icplab.traits.people import link_personas, measure_roles
from icplab.traits.profiles import draft_icps
from icplab.traits.rules import match_icp
from icplab.traits.sentences import findings
from icplab.traits.tables import (
    compare_segments,
    count_verdicts,
    delta_points,
    delta_table,
    forest_table,
    list_audit,
    list_pairs,
    list_signals,
    list_winning,
    other_outcomes,
)

__all__ = [
    "Evidence",
    "audit_leaks",
    "card_table",
    "compare_icps",
    "compare_segments",
    "count_verdicts",
    "delta_points",
    "delta_table",
    "draft_icps",
    "findings",
    "forest_table",
    "link_personas",
    "list_audit",
    "list_pairs",
    "list_signals",
    "list_winning",
    "match_icp",
    "measure_icp_delta",
    "measure_leading_indicators",
    "measure_roles",
    "measure_traits",
    "measure_yield",
    "other_outcomes",
    "search_pairs",
    "show_evidence",
]
