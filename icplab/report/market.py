"""Reads scores, segments, tiers and traits, makes the map of segments and tiers, and what each of four readers takes from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from icplab.core import formats as fmt
from icplab.core.charts.fields import shade
from icplab.core.schema import ALL, TIERS, UNASSIGNED

TIER_NAMES = {
    "tier_1": "Tier 1",
    "tier_2": "Tier 2",
    "tier_3": "Tier 3",
    "not_icp": "Not ICP",
    "insufficient": "Not enough data",
}
RANKED = TIERS[:3]
NOT_ON_MAP = "Unassigned, too little known"
HIGH_INTENT = 0.8  # quantile of the intent score from which an account counts as active now
NAMED = 3  # segments or traits that a reader is told by name


def map_view(
    scores: pd.DataFrame | None, segments: pd.DataFrame | None, tiers: pd.DataFrame | None, currency: str
) -> dict[str, Any] | None:
    """The prioritised map: accounts and expected value per segment and tier, with sums and capacity."""
    if scores is None or scores.empty:
        return None
    rows = scores.assign(segment=_names(scores, segments))
    order = [t for t in TIERS if (rows["tier"] == t).any()]
    cells = rows.groupby(["segment", "tier"])
    value = cells["expected_value"].sum(min_count=1).unstack("tier")
    count = cells["account_id"].count().unstack("tier")
    ranked = value.reindex(columns=list(RANKED)).sum(axis=1).drop(NOT_ON_MAP, errors="ignore")
    names = ranked.sort_values(ascending=False, kind="stable").index.tolist()
    names += [NOT_ON_MAP] if NOT_ON_MAP in count.index else []
    value, count = (t.reindex(index=names, columns=order) for t in (value, count.fillna(0)))
    steps = shade(value.where(count > 0)[[t for t in order if t in RANKED]].to_numpy(dtype="float64"))
    lines = [
        _line(name, value.loc[name], count.loc[name].fillna(0), steps[i], currency) for i, name in enumerate(names)
    ]
    return {
        "heads": [{"name": TIER_NAMES[t], "capacity": _capacity(tiers, t)} for t in order],
        "lines": lines,
        "sums": [_sum(value[t].sum(min_count=1), count[t].sum(), currency) for t in order],
        "total": _sum(value.sum(min_count=1).sum(min_count=1), count.to_numpy(dtype="float64").sum(), currency),
        "basis": _basis(scores),
        "currency": currency,
    }


def reader_views(
    scores: pd.DataFrame | None,
    segments: pd.DataFrame | None,
    tiers: pd.DataFrame | None,
    traits: pd.DataFrame | None,
    currency: str,
    *,
    market: pd.DataFrame | None = None,
) -> list[dict[str, Any]]:
    """The same map for demand generation, sales coverage, product and customer success: a few sentences each."""
    if scores is None or scores.empty:
        return []
    rows = scores.assign(segment=_names(scores, segments))
    views = [
        ("Demand generation", "Where to look for new customers", [*_demand(rows, currency), *_whitespace(market)]),
        ("Sales coverage", "Where sellers' time goes", _coverage(rows, tiers, currency)),
        ("Product", "What goes with winning and staying", _product(rows, traits)),
        ("Customer success", "Where customers can grow", _success(rows, currency)),
    ]
    return [{"reader": reader, "question": question, "says": says} for reader, question, says in views if says]


def _names(scores: pd.DataFrame, segments: pd.DataFrame | None) -> pd.Series:
    """Segment name per account; the id where the name is not known."""
    known: Mapping[str, str] = {}
    if segments is not None:
        known = dict(zip(segments["segment_id"], segments["segment"].fillna(segments["segment_id"]), strict=True))
    names = scores["segment_id"].map(lambda s: fmt.plain(known.get(s, s), 90))
    return names.mask(scores["segment_id"] == UNASSIGNED, NOT_ON_MAP)


def _line(name: str, values: pd.Series, counts: pd.Series, steps: np.ndarray, currency: str) -> dict[str, Any]:
    cells = []
    for i, tier in enumerate(counts.index):
        count = float(counts[tier])
        step = int(steps[i]) if tier in RANKED and i < len(steps) else -1
        cells.append({**_sum(values[tier], count, currency), "shade": f"q{step}" if step >= 0 and count else ""})
    return {"name": name, "cells": cells, "sum": _sum(values.sum(min_count=1), counts.sum(), currency)}


def _sum(value: float, count: float, currency: str) -> dict[str, str]:
    accounts = f"{fmt.integer(count)} account{'s' if count != 1 else ''}"
    shown = "" if pd.isna(value) or not count else fmt.money_short(value)
    return {"value": shown, "accounts": accounts if count else fmt.MISSING}


def _capacity(tiers: pd.DataFrame | None, tier: str) -> str:
    if tiers is None:
        return ""
    rows = tiers[(tiers["tier"] == tier) & (tiers["period"] == "now") & tiers["capacity"].notna()]
    return f"capacity {fmt.integer(rows['capacity'].iloc[0])}" if len(rows) else ""


def _basis(scores: pd.DataFrame) -> str:
    kinds = sorted(scores["value_basis"].dropna().unique())
    return ", ".join(fmt.plain(str(k).replace("_", " "), 60) for k in kinds)


def _demand(rows: pd.DataFrame, currency: str) -> list[str]:
    fresh = rows[(rows["motion"] == "new") & rows["tier"].isin(["tier_1", "tier_2"])]
    if fresh.empty:
        return ["No account that never bought is in tier 1 or 2."]
    says = [
        f"{len(fresh):,} accounts that never bought are in tier 1 or 2, most of their value in {_top(fresh, currency)}."
    ]
    intent = rows["intent_score"]
    if intent.notna().any():
        active = fresh[fresh["intent_score"] >= intent.quantile(HIGH_INTENT)]
        says.append(f"{len(active):,} of them are among the most active fifth by intent right now.")
    cold = rows[(rows["motion"] == "new") & rows["tier"].eq("not_icp")]
    if len(cold):
        says.append(f"{len(cold):,} are outside the profile and can be left out of audiences.")
    return says


def _whitespace(market: pd.DataFrame | None) -> list[str]:
    """Where the addressable market is that the CRM does not hold."""
    if market is None or market.empty:
        return []
    untouched = market.set_index("segment_id")["whitespace_accounts"]
    own = market[~market["segment_id"].isin([ALL, UNASSIGNED])]
    if not untouched.get(ALL, 0) > 0 or own.empty:
        return []
    top = own.sort_values(["whitespace_accounts", "segment_id"], ascending=[False, True]).iloc[0]
    most = f", most of them in {fmt.plain(top['segment'], 90)}" if len(own) > 1 else ""
    return [f"{fmt.integer(untouched[ALL])} accounts of the addressable market are not in the CRM{most}."]


def _coverage(rows: pd.DataFrame, tiers: pd.DataFrame | None, currency: str) -> list[str]:
    first = rows[rows["tier"] == "tier_1"]
    if first.empty:
        return ["No tier 1: the data supports no ranking by likelihood to win."]
    room = _capacity(tiers, "tier_1")
    says = [
        f"{len(first):,} accounts in tier 1{f' ({room})' if room else ''}, most of their value in {_top(first, currency)}."
    ]
    if first["tier_confidence"].notna().any():
        sure = first["tier_confidence"].ge(0.5)
        says.append(f"{int(sure.sum()):,} of them stay in tier 1 more often than not when the scorecard is refitted.")
    return says


def _product(rows: pd.DataFrame, traits: pd.DataFrame | None) -> list[str]:
    if traits is None or traits.empty:
        return []
    whole = traits[(traits["scope"] == ALL) & (traits["verdict"] == "supported") & traits["adjusted"].gt(0)]
    if whole.empty:
        return ["No trait is associated with any outcome beyond what chance explains."]
    says = []
    for outcome, word in (
        ("win", "winning"),
        ("retention", "staying"),
        ("value", "deal value"),
        ("expansion", "growing"),
    ):
        strong = whole[whole["outcome"] == outcome].copy()
        strong["size"] = np.log(strong["adjusted"].astype("float64"))
        strong = strong[strong["direction"] == "+"].sort_values(
            ["size", "trait", "level"], ascending=[False, True, True]
        )
        if len(strong):
            named = ", ".join(_trait(r) for r in strong.head(NAMED).to_dict("records"))
            says.append(f"Associated with {word}: {named}.")
    return says


def _trait(row: Mapping[Any, Any]) -> str:
    level = "" if row["level"] == "yes" else f" {fmt.plain(row['level'], 40)}"
    return f"{fmt.plain(str(row['trait']).replace('_', ' '), 40)}{level}"


def _success(rows: pd.DataFrame, currency: str) -> list[str]:
    grown = rows[rows["motion"] == "expansion"]
    if grown.empty:
        return ["No account is a customer yet, so nothing can be said about expansion."]
    best = grown[grown["tier"].isin(["tier_1", "tier_2"])]
    says = [f"{len(grown):,} customers could buy more; {len(best):,} of them are in tier 1 or 2."]
    if len(best):
        says.append(f"Most of the value of their expansion is in {_top(best, currency)}.")
    return says


def _top(rows: pd.DataFrame, currency: str) -> str:
    """The segments that hold most of the expected value, with it."""
    sums = rows.groupby("segment")["expected_value"].sum().sort_values(ascending=False, kind="stable")
    sums = sums[sums > 0].head(NAMED)
    return ", ".join(f"{name} ({fmt.money_short(value, currency)})" for name, value in sums.items()) or "no segment"
