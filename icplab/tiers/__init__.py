"""Reads scores, capacity and the forward check, makes tiers: who is in which, what each promises, what it delivered.

The parts: `cuts` (cut points by money and capacity), `steady` (last quarter's tiers and people's overrides), `promise` (the
artefact `tiers`), `judged` (tiers by rule without a model), `pipeline` (before and after), `attention` (fit and intent, the list of now), `changes` (what would lift an account), `found` (findings).
"""

from icplab.tiers.attention import cross_with_intent, list_fast_leads, list_now
from icplab.tiers.changes import changeable_traits, list_changes
from icplab.tiers.cuts import preview_tiers, set_tiers
from icplab.tiers.found import findings
from icplab.tiers.judged import judge_tiers, judged_findings
from icplab.tiers.pipeline import compare_pipeline
from icplab.tiers.promise import check_tiers, compare_promise, join_tiers, mark_in_sample, measure_tiers, value_tested
from icplab.tiers.steady import check_overrides, hold_tiers, override_tiers, read_overrides

__all__ = [
    "changeable_traits",
    "check_overrides",
    "check_tiers",
    "compare_pipeline",
    "compare_promise",
    "cross_with_intent",
    "findings",
    "hold_tiers",
    "join_tiers",
    "judge_tiers",
    "judged_findings",
    "list_changes",
    "list_fast_leads",
    "list_now",
    "mark_in_sample",
    "measure_tiers",
    "override_tiers",
    "preview_tiers",
    "read_overrides",
    "set_tiers",
    "value_tested",
]
