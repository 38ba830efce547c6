"""Reads scores and intent, makes what to do now: the matrix of tier and intent, and the list to call first."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.core.model import RANKED
from icplab.core.schema import TIERS

INTENT_HIGH = 50.0  # intent score from which an account counts as in the market now: as busy as the busiest tenth


def cross_with_intent(scored: pd.DataFrame) -> pd.DataFrame:
    """Accounts by tier and intent (high from INTENT_HIGH on; unknown without activities): tier, intent, accounts."""
    score = scored["intent_score"]
    intent = np.where(score.isna(), "unknown", np.where(score >= INTENT_HIGH, "high", "low"))
    counts = scored.assign(intent=intent).groupby(["tier", "intent"]).size().rename("accounts").reset_index()
    return counts.assign(_order=counts["tier"].map({t: k for k, t in enumerate(TIERS)})).sort_values(
        ["_order", "intent"], ignore_index=True
    )[["tier", "intent", "accounts"]]


def list_now(scored: pd.DataFrame, accounts: pd.DataFrame, as_of: pd.Timestamp | None = None) -> pd.DataFrame:
    """Accounts to call first: tiers 1 and 2 with high intent, best tier first, then by intent.

    `signal_age_days` is how long ago the last activity was; null where nothing is known of it.
    """
    inside = scored[scored["tier"].isin(RANKED[:2]) & (scored["intent_score"] >= INTENT_HIGH)]
    known = [c for c in ("account_id", "name", "last_activity_at") if c in accounts]
    named = inside.merge(accounts[known], on="account_id")
    last = named["last_activity_at"] if "last_activity_at" in named else pd.Series(pd.NaT, index=named.index)
    age = (as_of - last).dt.days if as_of is not None else pd.Series(np.nan, index=named.index)
    named = named.assign(signal_age_days=age.astype("float64"))
    named = named.sort_values(["tier", "intent_score", "account_id"], ascending=[True, False, True], ignore_index=True)
    first = ["account_id", "name", "segment_id", "tier", "fit_score", "intent_score", "signal_age_days"]
    return named[[*first, "win_probability", "expected_value"]]


def list_fast_leads(leads: pd.DataFrame, scored: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Leads that should reach sales first: still undecided, with an account of tier 1 or 2.

    Parameters
    ----------
    leads : canonical table; a lead is undecided until it is accepted, disqualified or has an opportunity
    scored : the artefact `scores`
    as_of : waiting days count until then

    Returns
    -------
    One row per lead: lead_id, account_id, tier, intent_score, win_probability, expected_value, waiting_days; best tier first,
    then high intent, then expected value.
    """
    undecided = leads["accepted_at"].isna() & leads["disqualified_at"].isna() & leads["opportunity_id"].isna()
    waiting = leads[undecided & leads["account_id"].notna()][["lead_id", "account_id", "created_at"]]
    joined = waiting.merge(scored, on="account_id")
    joined = joined[joined["tier"].isin(RANKED[:2])]
    joined = joined.assign(
        waiting_days=(as_of - joined["created_at"]).dt.days.astype("float64"),
        _quiet=~(joined["intent_score"] >= INTENT_HIGH),
    )
    order = ["tier", "_quiet", "expected_value", "lead_id"]
    joined = joined.sort_values(order, ascending=[True, True, False, True], ignore_index=True)
    return joined[
        ["lead_id", "account_id", "tier", "intent_score", "win_probability", "expected_value", "waiting_days"]
    ]
