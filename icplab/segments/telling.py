"""Reads the segments found with everything around them, makes the tables that a page on segments shows beside the map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.segments.areas import measure_agreement
from icplab.segments.draft import agreement_of, compare_draft, draft_findings, judge_draft, read_draft
from icplab.segments.filters import list_exceptions, summarise_exceptions, write_filters
from icplab.segments.fit import Segmentation
from icplab.segments.motion import judge_focus, measure_context, measure_motion


@dataclass(frozen=True)
class Told:
    """Tables beside the map; see the functions that make them.

    Attributes
    ----------
    filters, exceptions : `write_filters`, `summarise_exceptions`
    motion, focus, context : `measure_motion`, `judge_focus`, `measure_context`
    agreement : `measure_agreement`
    gates, moves : `judge_draft`, `compare_draft`; empty where the playbook states no draft
    findings : what the comparison with the draft says
    """

    filters: pd.DataFrame
    exceptions: pd.DataFrame
    motion: pd.DataFrame
    focus: pd.DataFrame
    context: pd.DataFrame
    agreement: pd.DataFrame
    gates: pd.DataFrame
    moves: pd.DataFrame
    findings: list[Finding]


def tell_segments(
    found: Segmentation,
    accounts: pd.DataFrame,
    opportunities: pd.DataFrame,
    *,
    rules: pd.DataFrame,
    stability: pd.DataFrame,
    catalogue: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    settings: Settings,
    as_of: pd.Timestamp,
) -> Told:
    """Filters, motion, focus, context, raters and the team's draft, all at once."""
    names = list(found.assigner["names"])
    draft = read_draft(found, accounts, settings=settings)
    gates = judge_draft(
        draft, found, accounts, opportunities, catalogue=catalogue, settings=settings, stability=stability
    )
    return Told(
        filters=write_filters(rules),
        exceptions=summarise_exceptions(list_exceptions(rules, accounts, found.assignments)),
        motion=measure_motion(found, accounts, opportunities, settings=settings, as_of=as_of),
        focus=judge_focus(found, opportunities, tables),
        context=measure_context(found, accounts, opportunities, catalogue=catalogue, tables=tables),
        agreement=measure_agreement(settings, found.segment_ids, names),
        gates=gates,
        moves=compare_draft(draft, found),
        findings=draft_findings(draft, gates, agreement_of(draft, found)),
    )
