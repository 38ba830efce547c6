"""Reads opportunities, tiers and quotas, makes the attainment of each seller beside the tier mix they worked."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from icplab.core import formats
from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.performance.cuts import mask_owners

STEP = "70_governance"
YEAR = 365  # days up to the as-of date that are looked at
BEST = ("tier_1", "tier_2")
LEAST_SELLERS = 8  # fewer cannot show a connection that is not nearly perfect
COLUMNS = {
    "owner": "str",
    **dict.fromkeys(("quota", "won_value", "attainment", "low", "high", "expected", "worked", "won"), "float64"),
    **dict.fromkeys(("tier_1", "tier_2", "tier_3", "other"), "float64"),
    "status": "str",
}


def measure_sellers(
    opportunities: pd.DataFrame,
    owners: pd.DataFrame,
    tier: pd.Series,
    settings: Settings,
    as_of: pd.Timestamp,
) -> pd.DataFrame:
    """Quota attainment of each seller over the last year, and the tiers of the opportunities they worked in it.

    Parameters
    ----------
    opportunities : DataFrame
        One row per opportunity.
    owners : DataFrame
        Canonical table: `quota` (a year), `active_from, active_to`.
    tier : Series
        Tier of each account (index account_id), best from the run before: those of today know the outcomes.
    settings : Settings
        `[privacy] show_owners`; `[plan] minimum_n`.

    Returns
    -------
    DataFrame
        `owner` (numbered unless names may be shown), `quota` (for the days they were active), `won_value` (annual),
        `attainment` (won over quota) with `low, high` (luck of a year: sum of squares of what families bought, log scale),
        `expected` (attainment had every opportunity brought what one of its tier brings on average), `worked`
        (opportunities that were open on any day of the year), `won, tier_1, tier_2, tier_3, other` (shares of worked),
        `status` (`insufficient` below the minimum of opportunities worked). By owner; without quota no attainment.
    """
    start = as_of - pd.Timedelta(days=YEAR)
    frame = opportunities[opportunities["owner"].notna() & (opportunities["created_at"] <= as_of)]
    closed = frame["status"] != "open"
    frame = frame[~closed | (frame["closed_at"] > start)]
    if not len(frame):
        return pd.DataFrame({c: pd.Series([], dtype=t) for c, t in COLUMNS.items()})
    won = frame["status"] == "won"
    frame = frame.assign(
        tier=frame["account_id"]
        .map(tier)
        .astype("str")
        .where(lambda t: t.isin((*BEST, "tier_3")), "other")
        .fillna("other"),
        brought=frame["acv"].where(won, 0.0).fillna(0.0).astype("float64"),
        won=won.astype("float64"),
    )
    frame["usual"] = frame.groupby("tier")["brought"].transform("mean")
    by = frame.groupby("owner", sort=True)
    table = by.agg(won_value=("brought", "sum"), usual=("usual", "sum"), worked=("won", "size"), won=("won", "sum"))
    shares = pd.crosstab(frame["owner"], frame["tier"], normalize="index")
    table = table.join(shares.reindex(columns=["tier_1", "tier_2", "tier_3", "other"], fill_value=0.0))
    table["quota"] = _quotas(owners, start, as_of).reindex(table.index)
    table["attainment"], table["expected"] = table["won_value"] / table["quota"], table["usual"] / table["quota"]
    luck = _luck(frame).reindex(table.index)
    table["low"], table["high"] = (table["attainment"] * np.exp(side * 1.96 * luck) for side in (-1, 1))
    table["status"] = np.where(table["worked"] >= settings.plan.minimum_n, "ok", "insufficient")
    table = table.reset_index()
    return table.assign(owner=mask_owners(table["owner"], opportunities, settings))[list(COLUMNS)].astype(COLUMNS)


def find_seller_mix(sellers: pd.DataFrame) -> Iterator[Finding]:
    """Whether sellers who worked more of the best tiers reached more of their quota."""
    known = sellers[(sellers["status"] == "ok") & sellers["attainment"].notna()]
    if not len(known):
        return
    rank, low, high, p = compare_mix(known)
    n, told = len(known), len(known) >= LEAST_SELLERS and (low > 0 or high < 0)
    verdict = (
        f"Sellers who worked {'more' if rank > 0 else 'less'} of tiers 1 and 2 reached more of their quota"
        if told
        else "Whether sellers who work more of tiers 1 and 2 reach more of their quota: not enough evidence"
    )
    mix = known["tier_1"] + known["tier_2"]
    yield Finding(
        "seller-mix",
        STEP,
        "info",
        "attainment by seller",
        f"{verdict} (rank correlation {formats.ratio(rank)}, {formats.ratio(low)} to {formats.ratio(high)}, over {n} sellers, at least {LEAST_SELLERS} are "
        f"needed). Shares of tiers 1 and 2 run from {formats.percent(mix.min())} to {formats.percent(mix.max())}, attainment "
        f"from {formats.percent(known['attainment'].min())} to {formats.percent(known['attainment'].max())}.",
        {"rank_correlation": rank, "low": low, "high": high, "p": p, "sellers": n},
        owner="Sales / Marketing / CS",
    )


def compare_mix(sellers: pd.DataFrame) -> tuple[float, float, float, float]:
    """Rank correlation of attainment with the share of tiers 1 and 2: value, 95 % interval, p-value by the t distribution.

    Fisher's z with the variance of Bonett and Wright (2000) for ranks; NaN ends with fewer than four sellers.
    """
    from scipy.special import stdtr

    mix, reached = (sellers["tier_1"] + sellers["tier_2"]).rank(), sellers["attainment"].rank()
    n = len(sellers)
    if n < 4 or mix.nunique() < 2 or reached.nunique() < 2:
        return np.nan, np.nan, np.nan, np.nan
    rank = float(np.clip(np.corrcoef(mix, reached)[0, 1], -1, 1))
    bounded = np.clip(rank, -0.999, 0.999)
    half = 1.96 * np.sqrt((1 + bounded**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(bounded) + np.array([-half, half]))
    t = bounded * np.sqrt((n - 2) / (1 - bounded**2))
    return rank, float(low), float(high), float(2 * stdtr(n - 2, -abs(t)))


def _quotas(owners: pd.DataFrame, start: pd.Timestamp, as_of: pd.Timestamp) -> pd.Series:
    """Quota of each seller for the days of the year on which they were active."""
    known = owners[owners["quota"] > 0].drop_duplicates("owner").set_index("owner")
    begin = known["active_from"].where(known["active_from"] > start, start)
    end = known["active_to"].where(known["active_to"] < as_of, as_of)
    share = ((end - begin).dt.days / YEAR).clip(0.0, 1.0)
    return (known["quota"] * share).where(share > 0)


def _luck(frame: pd.DataFrame) -> pd.Series:
    """Relative standard deviation of what each seller won, if families bought independently of each other (compound Poisson)."""
    family = frame["family_id"].astype("str").fillna("~" + frame["opportunity_id"].astype("str"))
    sums = frame.groupby(["owner", family])["brought"].sum()
    squares, total = (sums**2).groupby("owner").sum(), sums.groupby("owner").sum()
    return np.sqrt(squares) / total.where(total > 0)
