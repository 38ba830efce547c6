"""Reads opportunities and subscriptions, makes observations: one outcome measured per opportunity or per customer."""

from __future__ import annotations

import numpy as np
import pandas as pd

YEAR = pd.Timedelta(days=365)
EXPANDED = 1.05  # recurring revenue a year on, over that at the start: less is rounding, indexation or a currency
# Outcomes on a log scale have effects that are ratios of (geometric) means; the others have odds ratios.
LOGGED = ("value", "cycle", "margin")
BY_CUSTOMER = ("retention", "expansion")
COLUMNS = ["row_id", "account_id", "family_id", "y", "measured", "created_at", "owner", "source", "motion"]


def observe(
    outcome: str, opportunities: pd.DataFrame, subscriptions: pd.DataFrame | None, as_of: pd.Timestamp
) -> pd.DataFrame:
    """Observations of one outcome, sorted by `row_id`; empty where the data cannot measure it.

    Returns columns row_id, account_id, family_id, y (0/1, or a logarithm), measured (what y is made from, in its own unit),
    created_at, owner, source, motion.

    - win: closed opportunities other than renewals, 1 = won. Odds ratios do not change when wins and losses are sampled at
      different rates, so the closed basis loses no recent cohort and needs no horizon: an opportunity still open is left out,
      and creation quarters are adjusted for, because the mix of early closers differs between them.
    - value, cycle, margin: won opportunities; log of annual value, of days from creation to close, of annual gross margin.
    - retention, expansion: customers whose first subscription started at least a year before `as_of`; 1 = a subscription
      in force 365 days after that start; 1 = recurring revenue then above EXPANDED times that at the start.
    """
    if outcome in BY_CUSTOMER:
        return _observe_customers(outcome, opportunities, subscriptions, as_of)
    known = opportunities[opportunities["account_id"].notna() & (opportunities["type"] != "renewal")]
    if outcome == "win":
        rows = known[known["status"].isin(["won", "lost"])]
        measured = (rows["status"] == "won").astype("float64")
        return _finish(rows, measured, measured)
    won = known[known["status"] == "won"]
    measured = _measure_won(outcome, won)
    logarithm = pd.Series(np.log(measured.where(measured > 0)), index=won.index)
    return _finish(won, logarithm, measured)


def _measure_won(outcome: str, won: pd.DataFrame) -> pd.Series:
    """Annual value, days or annual gross margin of won opportunities."""
    if outcome == "value":
        return won["acv"].astype("float64")
    if outcome == "cycle":
        return won["cycle_days"].astype("float64").clip(lower=1).where(won["cycle_days"].notna())
    if won["margin_rate"].nunique() < 2:  # one rate for all: margin is value in another unit
        return pd.Series(np.nan, index=won.index)
    return won["acv"].astype("float64") * won["margin_rate"]


def _finish(rows: pd.DataFrame, y: pd.Series, measured: pd.Series) -> pd.DataFrame:
    known = y.notna()
    frame = rows[known].rename(columns={"opportunity_id": "row_id"})
    frame = frame.assign(y=y[known].astype("float64"), measured=measured[known].astype("float64"))
    return frame.sort_values("row_id", kind="stable", ignore_index=True)


def _observe_customers(
    outcome: str, opportunities: pd.DataFrame, subscriptions: pd.DataFrame | None, as_of: pd.Timestamp
) -> pd.DataFrame:
    if subscriptions is None or subscriptions.empty:
        return pd.DataFrame(columns=COLUMNS)
    rows = subscriptions[subscriptions["started_at"].notna() & subscriptions["account_id"].notna()]
    start = rows.groupby("account_id")["started_at"].transform("min")
    rows, start = rows[start + YEAR <= as_of], start[start + YEAR <= as_of]
    at_start = rows["mrr"].where(rows["started_at"] == start, 0.0)
    running = (rows["started_at"] <= start + YEAR) & ~(rows["ended_at"] <= start + YEAR)
    by_account = pd.DataFrame(
        {"first": start, "mrr": at_start, "later": rows["mrr"].where(running, 0.0), "running": running}
    ).groupby(rows["account_id"])
    totals = by_account.agg({"first": "min", "mrr": "sum", "later": "sum", "running": "max"})
    kept = totals["running"] if outcome == "retention" else totals["later"] > EXPANDED * totals["mrr"]
    return _describe_customers(totals["first"], kept.astype("float64"), opportunities)


def _describe_customers(first: pd.Series, y: pd.Series, opportunities: pd.DataFrame) -> pd.DataFrame:
    """One row per customer; source and owner are those of its first won opportunity."""
    won = opportunities[(opportunities["status"] == "won") & opportunities["account_id"].notna()]
    won = won.sort_values(["closed_at", "opportunity_id"], kind="stable").drop_duplicates("account_id")
    origin = won.set_index("account_id")[["family_id", "owner", "source"]].reindex(y.index)
    frame = origin.assign(y=y, measured=y, created_at=first, motion="new").reset_index()
    frame["family_id"] = frame["family_id"].fillna(frame["account_id"])
    frame["row_id"] = frame["account_id"]
    return frame[COLUMNS].sort_values("row_id", kind="stable", ignore_index=True)
