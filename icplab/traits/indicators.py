"""Reads subscriptions, usage and activities, makes leading indicators: what early signals say about keeping and expanding."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from icplab.core.stats.logistic import fit_candidates, ratio_table
from icplab.core.stats.multiplicity import benjamini_hochberg
from icplab.traits.outcomes import BY_CUSTOMER, observe

LANDMARKS = (30, 60, 90)  # days after the first subscription started
MIN_CUSTOMERS, MIN_EVENTS = 60, 10
FDR = 0.10
COLUMNS = ["outcome", "day", "signal", "n", "odds_ratio", "low", "high", "q_value", "associated"]
Tables = Mapping[str, pd.DataFrame]
CountEarly = Callable[[pd.Series, int], pd.Series | None]  # activities by account, from a date of its own for some days


def measure_leading_indicators(
    opportunities: pd.DataFrame,
    accounts: pd.DataFrame,
    tables: Tables,
    *,
    as_of: pd.Timestamp,
    count_early: CountEarly | None = None,
) -> pd.DataFrame:
    """Signals of a customer's first 30, 60 and 90 days that go with being a customer, or a larger one, after a year.

    Landmarking: at each day only customers still active on it count, so that leaving early cannot pass for a quiet start, and
    only what was seen by that day. A signal is the mean of a usage metric, its change from the first half of the time to the
    second, or the number of activities; in standard deviations (of log(1 + x) where it cannot be negative), held equal in the
    size of the first contract. `count_early` counts activities where they are too many to load (`step.count_early`).

    Returns one row per outcome (`retention`, `expansion`), day and signal: `n`, `odds_ratio` per standard deviation with a
    95 % interval clustered by family, `q_value` over all rows, `associated` (q at most .10). Empty without subscriptions,
    signals, or at least MIN_CUSTOMERS customers with MIN_EVENTS of either outcome. Source of the method: van Houwelingen 2007,
    Scandinavian Journal of Statistics 34(1).
    """
    subscriptions = tables.get("subscriptions")
    if subscriptions is None or subscriptions.empty:
        return pd.DataFrame(columns=COLUMNS)
    first_mrr = _first_mrr(subscriptions)
    parts = []
    for outcome in BY_CUSTOMER:
        kept = observe(outcome, opportunities, subscriptions, as_of)
        parts += [_at_landmark(outcome, day, kept, subscriptions, first_mrr, tables, count_early) for day in LANDMARKS]
    parts = [p for p in parts if len(p)]
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    table = pd.concat(parts, ignore_index=True)
    q_value = benjamini_hochberg(table["p_value"])
    table = table.assign(q_value=q_value, associated=q_value <= FDR)
    return table.sort_values(["outcome", "signal", "day"], ignore_index=True)[COLUMNS]


def _at_landmark(
    outcome: str,
    day: int,
    kept: pd.DataFrame,
    subscriptions: pd.DataFrame,
    first_mrr: pd.Series,
    tables: Tables,
    count_early: CountEarly | None,
) -> pd.DataFrame:
    """Effects of the signals seen by one day among customers active on it."""
    if len(kept) < MIN_CUSTOMERS:
        return pd.DataFrame()
    kept = kept[kept["account_id"].isin(_active_on(subscriptions, kept, day))].reset_index(drop=True)
    signals = _signals_by(kept, tables, day, count_early)
    y = kept["y"].to_numpy()
    if len(kept) < MIN_CUSTOMERS or signals.empty or min(y.sum(), (1 - y).sum()) < MIN_EVENTS:
        return pd.DataFrame()
    size = np.log1p(kept["account_id"].map(first_mrr).fillna(0).to_numpy(dtype=float))
    design = np.column_stack([np.ones(len(y)), (size - size.mean()) / max(size.std(), 1e-9)])
    fits = fit_candidates(y, _scaled(signals), design, ridge=[0.0, 0.01], clusters=kept["family_id"].to_numpy())
    ratios = ratio_table(fits)
    return ratios.assign(outcome=outcome, day=day, signal=signals.columns.to_numpy(), n=float(len(y)))


def _first_mrr(subscriptions: pd.DataFrame) -> pd.Series:
    """Recurring revenue at the start of each customer."""
    start = subscriptions.groupby("account_id")["started_at"].transform("min")
    return subscriptions[subscriptions["started_at"] == start].groupby("account_id")["mrr"].sum()


def _active_on(subscriptions: pd.DataFrame, kept: pd.DataFrame, day: int) -> NDArray:
    """Customers with a subscription in force on that day of theirs."""
    date = subscriptions["account_id"].map(kept.set_index("account_id")["created_at"]) + pd.Timedelta(days=day)
    active = (subscriptions["started_at"] <= date) & ~(subscriptions["ended_at"] <= date)
    return subscriptions.loc[active, "account_id"].unique()


def _signals_by(kept: pd.DataFrame, tables: Tables, day: int, count_early: CountEarly | None) -> pd.DataFrame:
    """One column per signal, rows as in `kept`; no record in a delivered table counts as zero."""
    start = kept.set_index("account_id")["created_at"]
    columns: dict[str, NDArray] = {}
    usage, activities = tables.get("usage"), tables.get("activities")
    if usage is not None and len(usage):
        since = (usage["period"] - usage["account_id"].map(start)).dt.days
        early = usage[(since >= 0) & (since < day)].assign(late=since >= day / 2)
        means = early.groupby(["metric", "late", "account_id"])["value"].mean()
        for metric in sorted(early["metric"].unique()):
            columns |= _usage_signals(str(metric), means, early, start.index)
    counts = None
    if count_early is not None:
        counts = count_early(start, day)
    elif activities is not None and len(activities):
        since = (activities["occurred_at"] - activities["account_id"].map(start)).dt.days
        early = activities[(since >= 0) & (since < day)]
        counts = early.groupby("account_id").size().reindex(start.index).fillna(0)
    if counts is not None:
        columns["activities"] = counts.to_numpy(dtype=float)
    signals = pd.DataFrame(columns)
    return signals.loc[:, signals.std() > 0] if len(signals.columns) else signals


def _usage_signals(metric: str, means: pd.Series, early: pd.DataFrame, index: pd.Index) -> dict[str, NDArray]:
    """Level of a usage metric, and its change between the halves where both halves have records."""
    level = early[early["metric"] == metric].groupby("account_id")["value"].mean().reindex(index).fillna(0)
    found = {f"usage: {metric}": level.to_numpy(dtype=float)}
    halves = [means.get((metric, late)) for late in (False, True)]
    if all(h is not None and len(h) >= MIN_CUSTOMERS // 2 for h in halves):
        before, after = (h.reindex(index).fillna(0) for h in halves)  # type: ignore[union-attr]
        found[f"usage: {metric}, change"] = (np.log1p(after.clip(0)) - np.log1p(before.clip(0))).to_numpy(dtype=float)
    return found


def _scaled(signals: pd.DataFrame) -> NDArray[np.floating]:
    values = signals.to_numpy(dtype=float)
    values = np.where((values < 0).any(axis=0), values, np.log1p(values.clip(0)))
    return (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-9)
