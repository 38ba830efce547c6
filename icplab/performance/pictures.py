"""Reads opportunities, subscriptions, spend and their levels, makes tables behind the pictures, each titled with its finding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from icplab.core import formats
from icplab.core.config import Settings
from icplab.performance.facts import DAYS_PER_MONTH
from icplab.performance.kpis import build_curves, build_forest
from icplab.performance.levels import clustering_of, count_levels
from icplab.performance.prepare import in_home_currency

SURE, WARN = 1.959964, 3.090232  # normal quantiles of the 95 % and 99.8 % limits
AGES = (3, 6, 9, 12, 18, 24)  # months after which customers are counted
MOST_COHORTS = 8
MOST_CHANNELS = 10


class Picture(NamedTuple):
    """A table to draw, the sentence it shows, and what the marks are."""

    table: pd.DataFrame
    title: str
    note: str = ""


class Funnel(NamedTuple):
    """Points of a funnel plot, their control limits, the overall rate, and the sentence."""

    table: pd.DataFrame
    limits: pd.DataFrame
    reference: float
    title: str
    note: str


def draw_quarters(kpis: pd.DataFrame, settings: Settings) -> Picture:
    """Closed win rate of all accounts by quarter, and whether the quarters differ by more than luck."""
    from scipy.special import chdtrc

    rows = kpis[(kpis["cut"] == "all") & (kpis["period"] != "all") & (kpis["kpi"] == "win_rate")]
    table = rows[(rows["basis"] == "closed") & rows["value"].notna()].sort_values("period", ignore_index=True)
    note = "Closed basis, by quarter of closing, with 95 % intervals."
    counted = table[table["n"] >= settings.plan.minimum_n]
    if len(counted) < 2:
        return Picture(table, "Too few quarters with enough closed opportunities to compare", note)
    # Variance from the printed interval, so that clustering in families counts.
    variance = ((counted["high"] - counted["low"]) / (2 * SURE)) ** 2
    centre = float(np.average(counted["value"], weights=1 / variance))
    p = float(chdtrc(len(counted) - 1, ((counted["value"] - centre) ** 2 / variance).sum()))
    low, high = (formats.percent(v) for v in (counted["value"].min(), counted["value"].max()))
    said = "no more than luck explains" if p > 0.05 else "more than luck explains"
    return Picture(table, f"Win rates of the quarters ran from {low} to {high}, {said} (p = {p:.2f})", note)


def draw_amounts(kpis: pd.DataFrame, settings: Settings) -> Picture:
    """Annual value won by quarter, the latest against the same quarter of the year before."""
    rows = kpis[(kpis["cut"] == "all") & (kpis["period"] != "all") & (kpis["kpi"] == "won_amount")]
    table, currency = rows.sort_values("period", ignore_index=True), settings.workspace.currency
    note = "Annual value of opportunities won, by quarter of closing."
    if not len(table):
        return Picture(table, "Nothing was won in a whole quarter", note)
    last = table.iloc[-1]
    before = table[table["period"] == f"{int(str(last['period'])[:4]) - 1}{str(last['period'])[4:]}"]["value"]
    title = f"{formats.money(last['value'], currency)} won in {last['period']}"
    if len(before) and before.iloc[0] > 0:
        change = float(last["value"] / before.iloc[0] - 1)
        title += f", {formats.percent(abs(change))} {'more' if change >= 0 else 'less'} than in the same quarter a year before"
    return Picture(table, title, note)


def draw_forest(kpis: pd.DataFrame, cut: str, settings: Settings) -> Picture:
    """Win rate of each level of a cut, raw beside pooled, and how far the leader is drawn back."""
    table = build_forest(kpis, cut, settings)
    name = formats.name(cut)
    note = f"Win rate ({formats.name(table['basis'].iloc[0])}) with 95 % intervals." if len(table) else ""
    pooled = table[table["estimate"] == "pooled"]
    if not len(pooled):
        return Picture(table, f"Too few levels of {name} to pool", note)
    table = table.assign(level=table["level"].str.replace(r"^\d+: ", "", regex=True))
    first = pooled.iloc[0]
    raw = table[(table["estimate"] == "raw")].iloc[0]
    title = (
        f"{name.capitalize()} “{formats.plain(raw['level'], 60)}” leads with {formats.percent(first['value'])} when levels are "
        f"pooled, {formats.percent(raw['value'])} raw"
    )
    return Picture(table, title, note)


def draw_funnel(
    opportunities: pd.DataFrame, levels: Mapping[str, pd.Series], settings: Settings, as_of: pd.Timestamp
) -> Funnel:
    """Closed win rate of every level of every cut against its n, with limits around the overall rate.

    Returns
    -------
    Funnel
        `table`: `level` (cut: level), `value, n, outside`; `limits`: `n, near_low, near_high` (95 %), `far_low, far_high`
        (99.8 %), widened by the clustering of opportunities in families.
    """
    counts = count_levels(opportunities, levels, settings, as_of)
    reference, clustering = clustering_of(opportunities, settings, as_of)
    sizes = counts["n"].to_numpy()
    wide = _limits(sizes, reference, clustering)
    outside = (counts["rate"] < wide["far_low"].to_numpy()) | (counts["rate"] > wide["far_high"].to_numpy())
    names = counts["cut"].map(formats.name) + ": " + counts["level"].str.replace(r"^\d+: ", "", regex=True)
    table = pd.DataFrame({"level": names, "value": counts["rate"], "n": counts["n"], "outside": outside})
    ends = (max(float(sizes.min()) * 0.8, 1.0), float(sizes.max()) * 1.25) if len(sizes) else (1.0, 10.0)
    title = (
        f"{int(outside.sum())} of {len(table)} levels win more or less often than luck explains"
        if outside.any()
        else f"None of {len(table)} levels wins more or less often than luck explains"
    )
    note = (
        "Win rate (closed) of every level of every cut shown. Inside the shaded bands a level does not differ from all; "
        "outside the wider one luck alone would put one in 500."
    )
    return Funnel(table, _limits(np.geomspace(ends[0], ends[1], 60), reference, clustering), reference, title, note)


def draw_curves(
    opportunities: pd.DataFrame, *, accounts: pd.DataFrame, cut: str, settings: Settings, as_of: pd.Timestamp
) -> Picture:
    """Cumulative incidence of winning up to the horizon, for all and for the levels of a cut with enough opportunities."""
    horizon, minimum = settings.plan.horizon_days, settings.plan.minimum_n
    table = build_curves(opportunities, accounts=accounts, settings=settings, as_of=as_of, cut=cut, whole=True)
    whole = table[table["level"] == "all"]
    table = table[table["day"] <= horizon]
    if not len(table):
        return Picture(table, "The opportunities carry no dates, so nothing is known about time")
    # A curve stays where its last event left it for as long as its opportunities were watched.
    last = table.groupby("level", sort=False).tail(1)
    table = pd.concat([table, last.assign(day=float(horizon))]).drop_duplicates(["level", "day"])
    table = table.assign(first=table["level"] != "all").sort_values(["first", "level", "day"], ignore_index=True)
    at_start = table.groupby("level")["at_risk"].max()
    kept = at_start[at_start >= minimum].sort_values(ascending=False, kind="stable").index[:6]
    table = table[table["level"].isin([*kept, "all"])]
    end = whole.loc[whole["day"] <= horizon, "won"].iloc[-1]
    half = whole.loc[whole["won"] >= end / 2, "day"].iloc[0]
    title = f"{formats.percent(end)} are won within {horizon} days, half of those by day {half:,.0f}"
    return Picture(
        table.assign(level=table["level"].str.replace(r"^\d+: ", "", regex=True)),
        title,
        f"Probability of having won, by days since creation; lost is a competing end, open ones count while watched. "
        f"Levels of {formats.name(cut)} with at least {minimum} opportunities."
        if cut != "all"
        else "Probability of having won, by days since creation; lost is a competing end, open ones count while watched.",
    )


def draw_retention_steps(
    subscriptions: pd.DataFrame,
    *,
    accounts: pd.DataFrame,
    rates: pd.DataFrame,
    settings: Settings,
    as_of: pd.Timestamp,
) -> Picture:
    """From recurring revenue of twelve months ago to today's: lost, reduced, grown, and new customers, as GRR and NRR count.

    Returns
    -------
    Picture
        `step, value` (a year's recurring revenue), `total`. By family, as the key figures: start + lost + reduced + grown is
        what the same customers pay today.
    """
    frame, reason = in_home_currency(subscriptions, "mrr", "started_at", rates, settings)
    family = frame["account_id"].map(accounts.set_index("account_id")["family_id"])
    then, now = (_arr_on(frame, family, day) for day in (as_of - pd.DateOffset(months=12), as_of))
    both = pd.concat([then.rename("then"), now.rename("now")], axis=1).fillna(0.0)
    cohort = both[both["then"] > 0]
    change, gone, start = cohort["now"] - cohort["then"], cohort["now"] == 0, float(cohort["then"].sum())
    rows = (
        (f"recurring revenue on {formats.date(as_of - pd.DateOffset(months=12))}", start, True),
        ("customers lost", change[gone].sum(), False),
        ("reduced", change[~gone & (change < 0)].sum(), False),
        ("grown", change[change > 0].sum(), False),
        ("the same customers today", cohort["now"].sum(), True),
        ("new customers", both.loc[both["then"] == 0, "now"].sum(), False),
    )
    table = pd.DataFrame(rows, columns=["step", "value", "total"])
    if reason or start <= 0:
        reason = reason or "nobody paid recurring revenue twelve months ago"
        return Picture(table.iloc[:0], f"Retention of revenue is not measured: {reason}")
    gross = float(np.minimum(cohort["then"], cohort["now"]).sum()) / start
    title = (
        f"Of every 100 of last year's recurring revenue {100 * gross:.0f} were kept; with growth the same customers now pay "
        f"{100 * cohort['now'].sum() / start:.0f}"
    )
    note = "Annual recurring revenue by customer family; the first is gross, the second net revenue retention."
    return Picture(table, title, note)


def draw_cohorts(subscriptions: pd.DataFrame, settings: Settings, as_of: pd.Timestamp) -> Picture:
    """Share of the customers of each half-year still there after so many months.

    Returns
    -------
    Picture
        `cohort, age, value, n`; only ages that every customer of the cohort has had time to reach.
    """
    columns = ["cohort", "age", "value", "n"]
    frame = subscriptions[subscriptions["account_id"].notna() & (subscriptions["started_at"] <= as_of)]
    if not len(frame):
        return Picture(pd.DataFrame(columns=columns), "No subscriptions were delivered, so retention is not known")
    by = frame.assign(ended_at=frame["ended_at"].where(frame["ended_at"] <= as_of)).groupby("account_id")
    start = by["started_at"].min()
    end = by["ended_at"].max().where(by["ended_at"].count() == by.size())
    half = start.dt.year.astype("str") + "H" + ((start.dt.month > 6) + 1).astype("str")
    newest = start.groupby(half).max()
    lived = (end.fillna(as_of + pd.Timedelta(days=1)) - start).dt.days / DAYS_PER_MONTH
    rows = [
        {"cohort": cohort, "age": f"{age} months", "value": float((own[cohort] >= age).mean()), "n": len(own[cohort])}
        for own in [dict(list(lived.groupby(half)))]
        for cohort in sorted(own)[-MOST_COHORTS:]
        for age in AGES
        if (as_of - newest[cohort]).days / DAYS_PER_MONTH >= age
    ]
    table = pd.DataFrame(rows, columns=columns)
    year = table[table["age"] == "12 months"]
    if year["n"].sum() == 0:
        return Picture(table, "No cohort of customers has been watched for a year yet")
    kept = float(np.average(year["value"], weights=year["n"]))
    large = year.loc[year["n"] >= settings.plan.minimum_n, "value"]
    spread = (
        f", from {formats.percent(large.min())} to {formats.percent(large.max())} by cohort of {settings.plan.minimum_n} or more"
        if len(large) > 1
        else ""
    )
    title = f"After a year {formats.percent(kept)} of customers are still there{spread}"
    return Picture(
        table, title, "Customers by half-year of their first subscription; a blank was not watched that long."
    )


def draw_shares(opportunities: pd.DataFrame, spend: pd.DataFrame, settings: Settings, as_of: pd.Timestamp) -> Picture:
    """Share of spend beside share of gross profit won, per channel, in the months in which both are known.

    Returns
    -------
    Picture
        `channel, what` (spend, gross profit won), `value` (share), largest spend first. Empty with the reason in the title
        where spend, margin or source is missing.
    """
    columns = ["channel", "what", "value"]
    won = opportunities[
        (opportunities["status"] == "won") & (opportunities["acv"] > 0) & opportunities["source"].notna()
    ]
    profit = (won["acv"] * won["margin_rate"].astype("float64")).dropna()
    if not len(spend) or not len(profit):
        lacking = "spend" if not len(spend) else "gross margin or source of won opportunities"
        return Picture(pd.DataFrame(columns=columns), f"There is no {lacking}, so shares cannot be compared")
    first, last = spend["month"].min(), min(as_of, spend["month"].max() + pd.DateOffset(months=1))
    inside = won.loc[profit.index, "closed_at"].between(first, last)
    costs = spend.groupby("channel")["amount"].sum()
    gains = profit[inside].groupby(won.loc[profit.index, "source"][inside]).sum()
    table = pd.DataFrame({"spend": costs / costs.sum(), "gross profit won": gains / gains.sum()}).fillna(0.0)
    table = table.sort_values(["spend", "gross profit won"], ascending=False, kind="stable").head(MOST_CHANNELS)
    gap = table["spend"] - table["gross profit won"]
    worst = int(np.argmax(gap.abs().to_numpy()))
    costs_share, gains_share = (float(table[c].iloc[worst]) for c in ("spend", "gross profit won"))
    title = (
        f"{formats.plain(table.index[worst], 60).capitalize()} takes {formats.percent(costs_share)} of spend and brings "
        f"{formats.percent(gains_share)} of gross profit"
    )
    long = table.rename_axis("channel").reset_index().melt("channel", var_name="what", value_name="value")
    note = (
        f"Spend and first-year gross profit of opportunities won, {formats.date(first)} to {formats.date(last)}; "
        "a channel's opportunities may be won later than it is paid."
    )
    return Picture(long, title, note)


def _limits(n: np.ndarray, reference: float, clustering: float) -> pd.DataFrame:
    """Control limits of a rate for each n."""
    spread = np.sqrt(reference * (1 - reference) * clustering / np.maximum(n, 1))
    ends = {
        f"{name}_{side}": np.clip(reference + sign * z * spread, 0, 1)
        for name, z in (("near", SURE), ("far", WARN))
        for side, sign in (("low", -1), ("high", 1))
    }
    return pd.DataFrame({"n": n, **ends})


def _arr_on(subscriptions: pd.DataFrame, family: pd.Series, day: pd.Timestamp) -> pd.Series:
    """Annual recurring revenue per family in force at the end of a day."""
    running = (subscriptions["started_at"] <= day) & ~(subscriptions["ended_at"] <= day)
    return subscriptions[running].groupby(family[running])["mrr"].sum() * 12
