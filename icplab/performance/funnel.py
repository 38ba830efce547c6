"""Reads activities and leads, makes meeting rate and sales acceptance of one level."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from icplab.performance import rows
from icplab.performance.facts import Slice
from icplab.performance.rows import Row


def measure_funnel(piece: Slice) -> Iterator[Row]:
    """Rows of meeting_rate and sales_acceptance of one level."""
    if not piece.facts.by_account:
        reason = "the cut describes opportunities, not accounts"
        yield rows.not_measured(piece, "meeting_rate", "accounts", "fraction", reason)
        yield rows.not_measured(piece, "sales_acceptance", "decided", "fraction", reason)
        return
    yield _meeting_rate(piece)
    yield _acceptance(piece)


def _meeting_rate(piece: Slice) -> Row:
    """Accounts that had a meeting, of those with any activity in the window."""
    reached, named = piece.tables["activities"], ("meeting_rate", "accounts")
    if reason := piece.facts.unmeasured.get("activities", ""):
        return rows.not_measured(piece, *named, "fraction", reason)
    note = f"accounts with a meeting of accounts with any activity in {piece.facts.window}"
    had, all_reached = piece.total(reached, reached["met"]), piece.total(reached)
    return rows.proportion(piece, *named, had, all_reached, note=note, nothing="no activity in the window")


def _acceptance(piece: Slice) -> Row:
    """Leads accepted by sales, of those accepted or disqualified after qualification; pending ones are left out."""
    facts, leads, named = piece.facts, piece.tables["leads"], ("sales_acceptance", "decided")
    if not len(facts.leads):
        return rows.not_measured(piece, *named, "fraction", "there is no leads table")
    offered = leads[facts.inside(leads["qualified_at"]) & ~np.isnat(leads["qualified_at"])]
    decided = offered[offered["accepted"] | offered["rejected"]]
    note = f"qualified in {facts.window}; {len(offered) - len(decided)} pending left out"
    yes, both = piece.total(decided, decided["accepted"]), piece.total(decided)
    nothing = "no qualified lead was accepted or disqualified in the window"
    return rows.proportion(piece, *named, yes, both, note=note, nothing=nothing)
