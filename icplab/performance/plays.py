"""Reads activities by play, opportunities and scores, makes meeting rate by segment, tier and play, and win rate and expansion by play."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.stats.intervals import widened
from icplab.core.stats.pooling import pool_rates
from icplab.core.stats.resample import draw_weights, ratio
from icplab.performance.prepare import MEETING, no_decision
from icplab.performance.tally import OK, THIN, tally

# How a meeting is written down that did not take place.
NOT_HELD = re.compile(r"miss|no[\s_-]*show|cancel|declin|not held|postpon")
REPLICATES = 1000
MONTHS = 12
MEETINGS = {
    **dict.fromkeys(("segment", "tier", "play"), "str"),
    **dict.fromkeys(("n", "met", "value", "low", "high", "pooled", "pooled_low", "pooled_high"), "float64"),
    "status": "str",
}
PLAYS = {
    "play": "str",
    **dict.fromkeys(("n", "win_rate", "low", "high"), "float64"),
    "win_status": "str",
    **dict.fromkeys(("customers", "expansion", "expansion_low", "expansion_high"), "float64"),
    "expansion_status": "str",
}


def measure_meetings(
    played: pd.DataFrame, scores: pd.DataFrame, accounts: pd.DataFrame, settings: Settings
) -> pd.DataFrame:
    """Meeting rate of every segment, tier and play: of the accounts that a play touched, those that held a meeting in it.

    Parameters
    ----------
    played : DataFrame
        Activities that name a play, one row per account, play, type and outcome (`features.summarise_plays`).
    scores : DataFrame
        `account_id, segment, tier`.
    accounts : DataFrame
        Account table (families).

    Returns
    -------
    DataFrame
        `segment, tier, play, n` (accounts touched), `met, value, low, high, pooled…` (drawn towards the other cells as far as
        they are alike), `status`. A meeting that was missed, cancelled or not held does not count.
    """
    if not len(played):
        return pd.DataFrame({c: pd.Series([], dtype=t) for c, t in MEETINGS.items()})
    kind, outcome = (played[c].astype("str").str.lower() for c in ("type", "outcome"))
    held = kind.str.contains(MEETING).fillna(False) & ~outcome.str.contains(NOT_HELD).fillna(False)
    met = held.astype(bool).groupby([played["account_id"], played["play"]]).any().rename("met").reset_index()
    rows = met.merge(scores[["account_id", "segment", "tier"]], on="account_id")
    rows["family_id"] = rows["account_id"].map(accounts.set_index("account_id")["family_id"])
    table = tally(rows, ["segment", "tier", "play"], rows["met"], settings.plan.minimum_n)
    table = table.rename(columns={"hits": "met"})
    pooled = pool_rates(table["met"], table["n"]) if len(table) > 1 else pd.DataFrame(index=table.index)
    names = ["pooled", "pooled_low", "pooled_high"]
    table = table.join(pooled[names]) if len(pooled.columns) else table.assign(**dict.fromkeys(names, np.nan))
    return table[list(MEETINGS)].astype(MEETINGS)


def measure_plays(
    opportunities: pd.DataFrame,
    subscriptions: pd.DataFrame,
    settings: Settings,
    as_of: pd.Timestamp,
    seed: int,
) -> pd.DataFrame:
    """Win rate of the opportunities worked with each play, and expansion of the customers won with it.

    Returns
    -------
    DataFrame
        `play, n` (closed, no decision left out), `win_rate, low, high, win_status, customers` (families won with the play that
        paid twelve months ago; the play of their first won opportunity), `expansion` (what they pay more now, of what they
        paid then), `expansion_low, expansion_high, expansion_status`.

    Notes
    -----
    Plays are chosen by people for accounts they believe in: a difference between plays is not an effect of the play.
    """
    closed = opportunities[
        (opportunities["status"] != "open") & ~no_decision(opportunities) & opportunities["play"].notna()
    ]
    wins = tally(closed, ["play"], closed["status"] == "won", settings.plan.minimum_n)
    wins = wins.rename(columns={"value": "win_rate", "status": "win_status"}).drop(columns="hits").set_index("play")
    grown = _expansion(opportunities, subscriptions, settings, as_of, seed)
    table = wins.join(grown, how="left").reset_index()
    table["customers"] = table["customers"].fillna(0.0)
    table["expansion_status"] = table["expansion_status"].astype("str").fillna("not_measured")
    return table[list(PLAYS)].astype(PLAYS)


def _expansion(
    opportunities: pd.DataFrame, subscriptions: pd.DataFrame, settings: Settings, as_of: pd.Timestamp, seed: int
) -> pd.DataFrame:
    """Expansion over twelve months of the families first won with each play."""
    won = opportunities[(opportunities["status"] == "won") & opportunities["play"].notna()]
    first = won.sort_values(["closed_at", "opportunity_id"], kind="stable").drop_duplicates("family_id")
    family = opportunities.drop_duplicates("account_id").set_index("account_id")["family_id"]
    rows = subscriptions[subscriptions["mrr"] > 0].assign(family_id=lambda t: t["account_id"].map(family))
    then, now = (_paid(rows, day) for day in (as_of - pd.DateOffset(months=MONTHS), as_of))
    base = pd.DataFrame({"then": then, "play": first.set_index("family_id")["play"].reindex(then.index)}).dropna()
    base["more"] = (now.reindex(base.index).fillna(0.0) - base["then"]).clip(lower=0.0)
    found = {}
    for play, part in base.sort_index().groupby("play", sort=True):
        weights = draw_weights(len(part), REPLICATES, seed)
        value, low, high, draws = ratio(part["more"].to_numpy(), part["then"].to_numpy(), weights, scale="log")
        if not np.isfinite(low) and len(part) > 1:  # nobody expanded, or all did alike
            low, high = np.quantile(draws[np.isfinite(draws)], [1 - widened(len(part)), widened(len(part))])
        enough = len(part) >= settings.plan.minimum_n_money and np.isfinite(low)
        found[play] = (float(len(part)), value, low, high, OK if enough else THIN)
    columns = ["customers", "expansion", "expansion_low", "expansion_high", "expansion_status"]
    return pd.DataFrame.from_dict(found, orient="index", columns=columns)


def _paid(subscriptions: pd.DataFrame, day: pd.Timestamp) -> pd.Series:
    """Recurring revenue of each family on a day."""
    running = subscriptions[(subscriptions["started_at"] <= day) & ~(subscriptions["ended_at"] <= day)]
    return running.groupby("family_id")["mrr"].sum()
