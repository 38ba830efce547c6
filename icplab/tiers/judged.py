"""Reads scores without a model and accounts inside or outside the profile, makes tiers by rule, labelled as judgement."""

from __future__ import annotations

import pandas as pd

from icplab.core.findings import Finding
from icplab.core.model import OUT_OF_MARKET, Model
from icplab.core.schema import UNASSIGNED
from icplab.tiers.steady import flagged

STEP = "50_tiers"
JUDGED = "judgement"
# The best tier is kept for what was measured.
BY_RULE = {"yes": "tier_2", "no": "tier_3"}


def judge_tiers(model: Model, scored: pd.DataFrame, market: pd.DataFrame, matches: pd.DataFrame) -> pd.DataFrame:
    """Tiers by the qualification rule of each segment's profile, where there is too little for a model.

    Parameters
    ----------
    model : with verdict insufficient-evidence; any other leaves `scored` as it is. A ranking that failed with enough data
        is no reason to judge
    scored : from `set_tiers`
    market : account table with segments, rows as in `scored`
    matches : from `traits.match_icp`: account_id, icp (yes, no, unknown)

    Returns
    -------
    `scored` with tier_2 inside the profile and tier_3 outside, flagged `judgement`; `insufficient` where the rule cannot say
    or there is none. The probability stays the base rate, the same for all, and the tier confidence null.
    """
    if model.verdict != "insufficient-evidence" or matches.empty:
        return scored
    icp = scored["account_id"].map(matches.set_index("account_id")["icp"])
    tier = icp.map(BY_RULE)
    open_to_it = (scored["segment_id"] != UNASSIGNED) & ~market["account_type"].isin(OUT_OF_MARKET).to_numpy()
    judged = tier.notna() & open_to_it
    return scored.assign(
        tier=scored["tier"].mask(judged, tier).astype("str"),
        icp=scored["icp"].mask(judged, icp).astype("str"),
        flags=flagged(scored["flags"], judged, JUDGED),
    )


def judged_findings(scored: pd.DataFrame) -> list[Finding]:
    """That tiers are judgement, and how many."""
    judged = scored[scored["flags"].astype("str").str.contains(rf"\b{JUDGED}\b")]
    if judged.empty:
        return []
    inside = int((judged["tier"] == BY_RULE["yes"]).sum())
    sentence = (
        f"Tiers are judgement, not measurement: {inside:,} accounts meet the rule of their segment's profile (tier 2), "
        f"{len(judged) - inside:,} do not (tier 3). No account is promised a win rate of its own."
    )
    numbers = {"inside": inside, "outside": len(judged) - inside}
    action = "Use them to order a list by hand; do not forecast or pay by them."
    return [Finding("insufficient-evidence", STEP, "watch", "judgement", sentence, numbers, action=action)]
