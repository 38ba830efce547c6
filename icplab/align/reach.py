"""Reads closed opportunities, makes what these data can tell: interval width at this n and the n that would settle it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from icplab.core import formats
from icplab.core.config import Settings
from icplab.core.stats.intervals import LEVEL, wilson

# Half-widths at which a question counts as settled, as rates: the usual size of a difference that changes a decision.
SETTLED = 0.05
SETTLED_GROUP = 0.10
SETTLED_VALUE = 0.20  # of a mean deal, as a share of itself
_WORDS = ("question", "unit", "counts", "verdict")
SHARES = (0.10, 0.30)  # prevalence of a trait asked about
TRAIT_RATIO = 1.6  # odds ratio of a trait that is worth acting on
TIER_RATIO = 2.0  # odds ratio between tiers that is worth working them differently
TIER_1 = 0.20  # share of accounts in tier 1 without a capacity
POWER = 0.80
MIN_LEFT = 5  # customers who left, below which a churn is not known whatever the formula says
DAYS_PER_MONTH = 30.4375
CLUSTERING = 1.3  # variance of clustered against independent opportunities, until the data say otherwise


def measure_reach(
    opportunities: pd.DataFrame,
    accounts: pd.DataFrame,
    catalogue: pd.DataFrame,
    settings: Settings,
    subscriptions: pd.DataFrame | None = None,
    as_of: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """Can these data tell? Per question: how wide the interval is at this n, and the n that would settle it.

    Parameters
    ----------
    opportunities, accounts : DataFrame
        Opportunity and account table.
    catalogue : DataFrame
        Candidate traits, of which the number that is tested follows.
    settings : Settings
        `[plan] minimum_n, max_segments, fdr`.
    subscriptions, as_of : DataFrame and Timestamp, optional
        Canonical table and the day up to which it counts; without them nothing is asked about customers who stay.

    Returns
    -------
    DataFrame
        `question, n` (behind it), `half_width` (of the 95 % interval: a `fraction` for rates, a share of the value itself,
        `relative`, for money; for traits and tiers the smallest odds `ratio` that would be found), `unit` says which,
        `wanted`, `n_needed` (in all), `counts` (what both n count: closed or won opportunities, customers), `verdict`
        (`yes`, `not enough evidence`), in the order of the steps.

    Notes
    -----
    Wilson half-widths on n divided by the clustering of opportunities in families, measured where there are enough.
    A trait is asked for with a two-sample normal test at 80 % power and the level that false-discovery control leaves
    to the first of all candidates (Fleiss, Levin and Paik 2003, section 4.2). A mean deal is known by its coefficient of
    variation with families as units; customers kept is a rate of families. A lifetime value is known by the spread of what
    families pay and, by the delta method, by how many have left: one over their number is the relative variance of churn.
    They are orders of magnitude, made before looking at effects.
    """
    closed = opportunities[opportunities["status"] != "open"]
    n, rate = len(closed), float((closed["status"] == "won").mean()) if len(closed) else 0.25
    deff = _clustering(closed, rate)
    traits = int((~catalogue["excluded"].astype(bool)).sum())
    segments, tier = settings.plan.max_segments, _tier_share(accounts, settings)
    rows = [
        _rate_row("the overall win rate", n, 1.0, rate, deff, SETTLED),
        *(
            _rate_row(f"the win rate of a segment with {share:.0%} of accounts", n, share, rate, deff, SETTLED_GROUP)
            for share in (0.40, 0.20, 0.10, 0.05)
        ),
        _rate_row(f"the smallest of {segments} equal segments", n, 1 / segments, rate, deff, SETTLED_GROUP),
        *(
            _contrast_row(
                f"a trait that {share:.0%} of accounts have, among {traits} candidates",
                *(share, n, rate, deff, traits, TRAIT_RATIO, settings.plan.fdr),
            )
            for share in SHARES
        ),
        _quarter_row(closed, rate, deff),
        _contrast_row(
            f"tier 1 ({tier:.0%} of accounts) against the rest, by odds of winning",
            *(tier, n, rate, deff, 1, TIER_RATIO, 1 - LEVEL),
        ),
    ]
    rows += [*_value_rows(opportunities), *_kept_rows(accounts, subscriptions, as_of)]
    rows += _lifetime_rows(accounts, subscriptions, settings, as_of)
    table = pd.DataFrame(rows)
    return table.astype({c: "str" if c in _WORDS else "float64" for c in table})


def show_reach(reach: pd.DataFrame) -> pd.DataFrame:
    """`measure_reach` in words: `question, n, counts, known_to, wanted, n_needed, verdict`, sizes printed with their unit."""
    return pd.DataFrame(
        {
            "question": reach["question"],
            "n": reach["n"],
            "counts": reach["counts"],
            "known_to": _sizes(reach["half_width"], reach["unit"], above="odds ratios above "),
            "wanted": _sizes(reach["wanted"], reach["unit"], above="odds ratio "),
            "n_needed": reach["n_needed"],
            "verdict": reach["verdict"],
        }
    )


def _clustering(closed: pd.DataFrame, rate: float) -> float:
    """Variance of the win rate with families as clusters, against independent opportunities."""
    sums = closed.assign(won=closed["status"] == "won").groupby("family_id")["won"].agg(["sum", "size"])
    families = len(sums)
    if families < 30 or not 0 < rate < 1:
        return CLUSTERING
    spread = ((sums["sum"] - rate * sums["size"]) ** 2).sum() * families / (families - 1)
    return float(max(1.0, spread / (len(closed) * rate * (1 - rate))))


def _half_width(rate: float, n: float) -> float:
    if n < 1:
        return 0.5
    low, high = wilson(rate * n, n)
    return float((high - low) / 2)


def _n_for(rate: float, half: float) -> float:
    """Independent observations for a half-width, by the normal approximation."""
    return float(np.ceil(1.96**2 * rate * (1 - rate) / half**2))


def _row(
    question: str,
    n: float,
    half: float,
    wanted: float,
    needed: float,
    unit: str,
    settled: bool,
    counts: str = "closed opportunities",
) -> dict[str, Any]:
    return {
        "question": question,
        "n": float(n),
        "half_width": half,
        "wanted": wanted,
        "unit": unit,
        "n_needed": needed,
        "counts": counts,
        "verdict": "yes" if settled else "not enough evidence",
    }


def _rate_row(question: str, n: int, share: float, rate: float, deff: float, wanted: float) -> dict[str, Any]:
    """A rate of a share of all opportunities: interval now, and closed opportunities in all that would settle it."""
    half = _half_width(rate, n * share / deff)
    needed = np.ceil(_n_for(rate, wanted) * deff / share)
    return _row(question, np.floor(n * share), half, wanted, needed, "fraction", half <= wanted)


def _contrast_row(
    question: str, share: float, n: int, rate: float, deff: float, tests: int, wanted: float, level: float
) -> dict[str, Any]:
    """Smallest odds ratio that would be found between this share of accounts and the rest, among so many tests."""
    ratios = np.geomspace(1.05, 20, 400)
    needed = _n_for_ratio(ratios, share, rate, max(tests, 1), level) * deff
    found = ratios[needed <= n]
    smallest = float(found.min()) if len(found) else np.nan
    enough = float(np.ceil(np.interp(wanted, ratios, needed)))
    return _row(question, n, smallest, wanted, enough, "ratio", bool(smallest <= wanted))


def _n_for_ratio(ratio: np.ndarray, share: float, rate: float, traits: int, fdr: float) -> np.ndarray:
    """Opportunities for an odds ratio at the level that false-discovery control leaves to the first of all traits."""
    from scipy.special import ndtri

    odds = rate / (1 - rate) if 0 < rate < 1 else 1 / 3
    low = _base_rate(odds, ratio, share, rate)
    high = ratio * low / (1 - low)
    high = high / (1 + high)
    pooled = share * high + (1 - share) * low
    z, power = ndtri(1 - fdr / traits / 2), ndtri(POWER)
    spread = z * np.sqrt(pooled * (1 - pooled) / (share * (1 - share)))
    spread = spread + power * np.sqrt(high * (1 - high) / share + low * (1 - low) / (1 - share))
    return (spread / (high - low)) ** 2


def _base_rate(odds: float, ratio: np.ndarray, share: float, rate: float) -> np.ndarray:
    """Rate without the trait that keeps the overall rate, by bisection."""
    target = rate if 0 < rate < 1 else odds / (1 + odds)
    low, high = np.full_like(ratio, 1e-6), np.full_like(ratio, 1 - 1e-6)
    for _ in range(50):
        middle = (low + high) / 2
        with_trait = ratio * middle / (1 - middle)
        mean = share * with_trait / (1 + with_trait) + (1 - share) * middle
        low, high = np.where(mean < target, middle, low), np.where(mean < target, high, middle)
    return (low + high) / 2


def _quarter_row(closed: pd.DataFrame, rate: float, deff: float) -> dict[str, Any]:
    """Whether one quarter tells from the next: the difference of two usual quarters."""
    dates = closed["closed_at"].dropna()
    quarters = max((dates.max() - dates.min()).days / 91.3, 1.0) if len(dates) > 1 else np.nan
    n = len(dates) / quarters if len(dates) > 1 else 0.0
    half = np.sqrt(2) * _half_width(rate, n / deff) if n else np.nan
    needed = np.ceil(2 * _n_for(rate, SETTLED_GROUP) * deff) * (quarters if n else np.nan)
    question = "a change of the win rate from one quarter to the next"
    return _row(question, np.floor(n), half, SETTLED_GROUP, needed, "fraction", bool(n) and half <= SETTLED_GROUP)


def _value_rows(opportunities: pd.DataFrame) -> list[dict[str, Any]]:
    """How well the mean won deal is known, of all and of a segment, as a share of itself."""
    won = opportunities[(opportunities["status"] == "won")]
    deals = won[won["acv"] > 0] if "acv" in won else won.iloc[:0]
    n, spread = len(deals), np.nan
    if n > 1:
        mean = float(deals["acv"].mean())
        gaps = (deals["acv"] / mean - 1).groupby(deals["family_id"]).sum()
        spread = float(np.sqrt((gaps**2).sum() * len(gaps) / max(len(gaps) - 1, 1) / n))  # of one deal, clustered
    rows = []
    for question, share in (("the mean value of a deal", 1.0), ("the mean deal of a segment with 20% of deals", 0.2)):
        half = 1.96 * spread / np.sqrt(n * share) if n > 1 else np.nan
        needed = np.ceil((1.96 * spread / SETTLED_VALUE) ** 2 / share)
        settled = bool(half <= SETTLED_VALUE) and n * share >= 2
        given = (question, np.floor(n * share), half, SETTLED_VALUE, needed, "relative", settled)
        rows.append(_row(*given, "won opportunities with an amount"))
    return rows


def _kept_rows(
    accounts: pd.DataFrame, subscriptions: pd.DataFrame | None, as_of: pd.Timestamp | None
) -> list[dict[str, Any]]:
    """How well it is known how many customers stay for a year, of all and of a segment."""
    if subscriptions is None or as_of is None or not len(subscriptions):
        return []
    then, now = (
        subscriptions.loc[
            (subscriptions["started_at"] <= day) & ~(subscriptions["ended_at"] <= day) & (subscriptions["mrr"] > 0),
            "account_id",
        ]
        for day in (as_of - pd.DateOffset(months=12), as_of)
    )
    family = accounts.set_index("account_id")["family_id"]
    before, still = (set(ids.map(family).dropna()) for ids in (then, now))
    n, rate = len(before), len(before & still) / len(before) if before else 0.9
    of = "customers of a year ago"
    rows = []
    for question, share, wanted in (
        ("the share of customers kept for a year", 1.0, SETTLED),
        ("the share kept of a segment with 20% of customers", 0.2, SETTLED_GROUP),
    ):
        half, needed = _half_width(rate, n * share), np.ceil(_n_for(rate, wanted) / share)
        rows.append(_row(question, np.floor(n * share), half, wanted, needed, "fraction", half <= wanted, of))
    return rows


def _lifetime_rows(
    accounts: pd.DataFrame, subscriptions: pd.DataFrame | None, settings: Settings, as_of: pd.Timestamp | None
) -> list[dict[str, Any]]:
    """How well the lifetime value of a customer is known, of all and of a segment, as a share of itself."""
    if subscriptions is None or as_of is None or not len(subscriptions):
        return []
    lives = _lives(accounts, subscriptions, as_of)
    n, left = len(lives), float(lives["left"].sum())
    spread = np.nan  # of one customer; without anybody who left no churn is known, however many stayed
    if n > 1 and left:
        paid = float(lives["mrr"].var() / lives["mrr"].mean() ** 2)
        bend = _elasticity(left / float(lives["months"].sum()), settings)
        spread = float(np.sqrt(paid + bend**2 * n / left))
    rows = []
    for question, share in (
        ("the lifetime value of a customer", 1.0),
        ("the lifetime value in a segment with 20% of customers", 0.2),
    ):
        half = 1.96 * spread / np.sqrt(n * share) if n else np.nan
        needed = np.ceil((1.96 * spread / SETTLED_VALUE) ** 2 / share)
        settled = bool(half <= SETTLED_VALUE) and left * share >= MIN_LEFT
        given = (question, np.floor(n * share), half, SETTLED_VALUE, needed, "relative", settled)
        rows.append(_row(*given, "customers ever"))
    return rows


def _lives(accounts: pd.DataFrame, subscriptions: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Per family that ever subscribed: `mrr` at first, `months` lived, whether it `left`."""
    rows = subscriptions[(subscriptions["mrr"] > 0) & (subscriptions["started_at"] <= as_of)]
    rows = rows.assign(family=rows["account_id"].map(accounts.set_index("account_id")["family_id"]))
    rows = rows[rows["family"].notna()].assign(end=rows["ended_at"].where(rows["ended_at"] <= as_of))
    by = rows.groupby("family", sort=True)
    start, end = by["started_at"].min(), by["end"].max().where(by["end"].count() == by.size())
    first = rows[rows["started_at"] == rows["family"].map(start)].groupby("family")["mrr"].sum()
    months = ((end.fillna(as_of) - start).dt.days / DAYS_PER_MONTH).clip(lower=0.5)
    return pd.DataFrame({"mrr": first, "months": months, "left": end.notna()})


def _elasticity(churn: float, settings: Settings) -> float:
    """Per cent by which a capped, discounted lifetime falls when a constant monthly churn rises by one per cent."""
    month = np.arange(1, settings.economics.ltv_months + 1)
    kept = np.exp(-churn * month) / (1 + settings.economics.discount_rate) ** (month / 12)
    return float(churn * (month * kept).sum() / kept.sum())


def _tier_share(accounts: pd.DataFrame, settings: Settings) -> float:
    """Share of accounts that tier 1 has room for; without a capacity the best fifth."""
    capacity, n = settings.capacity.tier_1, max(len(accounts), 1)
    return float(np.clip((capacity or TIER_1 * n) / n, 0.01, 0.5))


def _sizes(values: pd.Series, units: pd.Series, above: str) -> pd.Series:
    """Half-widths as points of rate, ratios as ratios; a dash where there is nothing to go by."""
    points = "±" + (100 * values).round(0).astype("Int64").astype("str") + " points"
    ratios = above + values.round(1).astype("str")
    shares = "±" + (100 * values).round(0).astype("Int64").astype("str") + " % of it"
    said = points.where(units == "fraction", shares.where(units == "relative", ratios))
    return said.where(values.notna(), formats.MISSING).astype("str")
