"""Reads the account table, makes the market map: which account is in which segment, how sure, and what sets it apart.

The steps in order: `fit_segments` (how many segments, whether they exist), `measure_stability`, `describe_segments` (filters a
CRM can hold), `measure_segments` (the artefact), `continue_segments` (ids kept across quarters), `findings`.
"""

from icplab.segments.areas import compare_scores, measure_agreement, score_anchors
from icplab.segments.assign import assign_segments, posteriors_of
from icplab.segments.columns import ColumnAssigner
from icplab.segments.continuity import continue_segments, keep_ids, match_segments
from icplab.segments.contribution import measure_blocks, say_blocks
from icplab.segments.dimensions import measure_differences, measure_segments
from icplab.segments.draft import (
    Draft,
    agreement_of,
    compare_draft,
    draft_findings,
    judge_draft,
    locate_best_customers,
    read_draft,
)
from icplab.segments.files import assigner_files
from icplab.segments.filters import list_exceptions, summarise_exceptions, write_filters
from icplab.segments.fit import Segmentation, fit_segments, measure_stability, resample_choice
from icplab.segments.formula import write_formulas, write_points, write_sql
from icplab.segments.found import findings, left_out, measure_source_dependence
from icplab.segments.motion import judge_focus, measure_context, measure_motion
from icplab.segments.naming import measure_profile, name_segments
from icplab.segments.preview import Look, Looks, prepare_preview, preview_segments
from icplab.segments.rules import describe_segments, rule_holds
from icplab.segments.telling import Told, tell_segments
from icplab.segments.universe import measure_market

__all__ = [
    "ColumnAssigner",
    "Draft",
    "Look",
    "Looks",
    "Segmentation",
    "Told",
    "agreement_of",
    "assign_segments",
    "assigner_files",
    "compare_draft",
    "compare_scores",
    "continue_segments",
    "describe_segments",
    "draft_findings",
    "findings",
    "fit_segments",
    "judge_draft",
    "judge_focus",
    "keep_ids",
    "left_out",
    "list_exceptions",
    "locate_best_customers",
    "match_segments",
    "measure_agreement",
    "measure_blocks",
    "measure_context",
    "measure_differences",
    "measure_market",
    "measure_motion",
    "measure_profile",
    "measure_segments",
    "measure_source_dependence",
    "measure_stability",
    "name_segments",
    "posteriors_of",
    "prepare_preview",
    "preview_segments",
    "read_draft",
    "resample_choice",
    "rule_holds",
    "say_blocks",
    "score_anchors",
    "summarise_exceptions",
    "tell_segments",
    "write_filters",
    "write_formulas",
    "write_points",
    "write_sql",
]
