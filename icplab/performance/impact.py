"""Reads scores and what followed, makes the impact of the ICP: targeting, message fit, qualification, inside against outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.core.stats.intervals import percentile, widened
from icplab.core.stats.resample import draw_weights, quantile_draws
from icplab.performance.prepare import MEETING, lead_cycles, no_decision
from icplab.performance.tally import OK, difference, tally

STEP = "60_activation"
YEAR = 365
REPLICATES = 1000
COLUMNS = {
    **dict.fromkeys(("asks", "measure", "unit"), "str"),
    **dict.fromkeys(("one", "one_low", "one_high", "n", "other", "other_low", "other_high", "n_other"), "float64"),
    **dict.fromkeys(("difference", "difference_low", "difference_high"), "float64"),
    "verdict": "str",
}
INSIDE, OUTSIDE = "inside", "outside"


def measure_impact(
    opportunities: pd.DataFrame,
    scores: pd.DataFrame,
    accounts: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    signals: pd.DataFrame,
    settings: Settings,
    as_of: pd.Timestamp,
    seed: int,
) -> pd.DataFrame:
    """Does the ICP improve targeting, message fit and qualification? Accounts inside it against those outside.

    Parameters
    ----------
    opportunities, accounts : the tables of the run
    scores : artefact; accounts whose `icp` is unknown are on neither side
    tables : canonical `leads, feedback`
    signals : activities, one row per account and type

    Returns
    -------
    DataFrame
        `asks, measure, unit` (fraction or days), `one` (inside; for targeting: the last twelve months), `other` (outside; the
        twelve months before), each with interval and n, `difference` with its interval, `verdict` (better, worse, not enough evidence).

    Notes
    -----
    Rates: families as units; differences after Newcombe (1998). Days: medians, families resampled. The profile was drawn
    from accounts with these outcomes, so inside against outside flatters it; targeting compares two years of the same rule.
    """
    side = scores.set_index("account_id")["icp"].map({"yes": INSIDE, "no": OUTSIDE}).astype("str")
    family = accounts.set_index("account_id")["family_id"]
    rows = [
        _targeting(opportunities, side, settings, as_of),
        _message(tables["feedback"], opportunities, side, family, settings),
        _meetings(signals, side, family, settings),
        _acceptance(tables["leads"], side, family, settings),
        _days_to_qualify(tables["leads"], opportunities, side, family, settings, as_of, seed),
        _winning(opportunities, side, settings),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def find_impact(impact: pd.DataFrame) -> Iterator[Finding]:
    """In one sentence: on which measures accounts inside the ICP do better, worse, or no different as far as is known."""
    named = {v: ", ".join(impact.loc[impact["verdict"] == v, "measure"]) for v in ("better", "worse")}
    known = int(impact["one"].notna().sum())
    if not known:
        return
    said = "; ".join(f"{word}: {names}" for word, names in named.items() if names) or "on none of them beyond chance"
    yield Finding(
        "icp-pays",
        STEP,
        "info",
        "inside against outside the ICP",
        f"Of {known} measures of targeting, message fit and qualification, the ICP does {said}.",
        {"measured": known, **{v: int((impact["verdict"] == v).sum()) for v in ("better", "worse")}},
        owner="Revenue Leadership / Product Marketing",
    )


def show_conversions(kpis: pd.DataFrame, cut: str) -> pd.DataFrame:
    """Conversion from step to step by level of a cut: `step, level, n, value, low, high, status`, leads first."""
    rows = kpis[(kpis["cut"] == cut) & (kpis["period"] == "all") & kpis["kpi"].isin(("conversion", "stage_conversion"))]
    order = {b: i for i, b in enumerate(_in_order(rows))}
    rows = rows.assign(place=rows["basis"].map(order), step=rows["basis"])
    columns = ["step", "level", "n", "value", "low", "high", "status"]
    return rows.sort_values(["kpi", "place", "level"], kind="stable", ignore_index=True)[columns]


def _in_order(rows: pd.DataFrame) -> list[str]:
    """Steps such as `a to b` so that each begins where the one before ends."""
    steps = sorted(set(rows["basis"]))
    starts, ends = ({s: s.split(" to ", 1)[i] for s in steps} for i in (0, 1))
    first = [s for s in steps if starts[s] not in ends.values()]
    found: list[str] = []
    for step in first:
        at: str | None = step
        while at is not None and at not in found:
            found.append(at)
            end = ends[at]
            at = next((s for s in steps if starts[s] == end and s not in found), None)
    return found + [s for s in steps if s not in found]


def _targeting(opportunities: pd.DataFrame, side: pd.Series, settings: Settings, as_of: pd.Timestamp) -> dict[str, Any]:
    age = (as_of - opportunities["created_at"]).dt.days
    year = pd.Series(np.select([age < YEAR, age < 2 * YEAR], ["one", "other"], ""), opportunities.index)
    rows = opportunities.assign(year=year, side=opportunities["account_id"].map(side))
    rows = rows[rows["side"].notna() & (rows["year"] != "")]
    measure = "opportunities opened with accounts inside the ICP: last 12 months against the 12 before"
    return _compared("targeting precision", measure, rows, "year", rows["side"] == INSIDE, settings, ("one", "other"))


def _message(
    feedback: pd.DataFrame, opportunities: pd.DataFrame, side: pd.Series, family: pd.Series, settings: Settings
) -> dict[str, Any]:
    of = opportunities.drop_duplicates("opportunity_id").set_index("opportunity_id")["account_id"]
    account = feedback["opportunity_id"].map(of).astype("str").fillna(feedback["account_id"].astype("str"))
    rows = _sided(feedback.assign(account_id=account), side, family)
    rows = rows[rows["fit"].notna()]
    return _compared("message fit", "sales calls the fit good", rows, "side", rows["fit"] == "good", settings)


def _meetings(signals: pd.DataFrame, side: pd.Series, family: pd.Series, settings: Settings) -> dict[str, Any]:
    met = signals["type"].astype("str").str.lower().str.contains(MEETING).fillna(False).astype(bool)
    rows = _sided(met.groupby(signals["account_id"]).any().rename("met").reset_index(), side, family)
    return _compared(
        "message fit", "accounts with any activity that had a meeting", rows, "side", rows["met"], settings
    )


def _acceptance(leads: pd.DataFrame, side: pd.Series, family: pd.Series, settings: Settings) -> dict[str, Any]:
    rows = _sided(leads[leads["qualified_at"].notna()], side, family)
    rows = rows[rows["accepted_at"].notna() | rows["disqualified_at"].notna()]
    return _compared(
        "qualification", "qualified leads that sales accepts", rows, "side", rows["accepted_at"].notna(), settings
    )


def _winning(opportunities: pd.DataFrame, side: pd.Series, settings: Settings) -> dict[str, Any]:
    closed = opportunities[(opportunities["status"] != "open") & ~no_decision(opportunities)]
    rows = closed.assign(side=closed["account_id"].map(side))
    rows = rows[rows["side"].notna()]
    return _compared(
        "qualification", "closed opportunities that are won", rows, "side", rows["status"] == "won", settings
    )


def _sided(frame: pd.DataFrame, side: pd.Series, family: pd.Series) -> pd.DataFrame:
    rows = frame.assign(side=frame["account_id"].map(side), family_id=frame["account_id"].map(family))
    return rows[rows["side"].notna()]


def _compared(
    asks: str,
    measure: str,
    rows: pd.DataFrame,
    by: str,
    hit: pd.Series,
    settings: Settings,
    sides: tuple[str, str] = (INSIDE, OUTSIDE),
) -> dict[str, Any]:
    """Two rates and their difference."""
    found = tally(rows, [by], hit, settings.plan.minimum_n).set_index(by)
    row: dict[str, Any] = {**dict.fromkeys(COLUMNS, np.nan), "asks": asks, "measure": measure, "unit": "fraction"}
    row |= {"n": 0.0, "n_other": 0.0, "verdict": "not enough evidence"}
    for name, key in zip(("one", "other"), sides, strict=True):
        if key in found.index:
            at = found.loc[key]
            row |= {name: at["value"], f"{name}_low": at["low"], f"{name}_high": at["high"]}
            row["n" if name == "one" else "n_other"] = at["n"]
    if not set(sides) <= set(found.index):
        return row
    gap, low, high = difference(*(found.loc[[side]].iloc[0] for side in sides))
    row |= {"difference": gap, "difference_low": low, "difference_high": high}
    enough = (found.loc[list(sides), "status"] == OK).all()
    return row | {"verdict": _verdict(low, high, enough=bool(enough), higher=True)}


def _verdict(low: float, high: float, *, enough: bool, higher: bool) -> str:
    if not enough or not (low > 0 or high < 0):
        return "not enough evidence"
    return "better" if (low > 0) == higher else "worse"


def _days_to_qualify(
    leads: pd.DataFrame,
    opportunities: pd.DataFrame,
    side: pd.Series,
    family: pd.Series,
    settings: Settings,
    as_of: pd.Timestamp,
    seed: int,
) -> dict[str, Any]:
    """Median days from first contact to qualified, inside against outside the ICP."""
    row: dict[str, Any] = {
        **dict.fromkeys(COLUMNS, np.nan),
        "asks": "qualification",
        "unit": "days",
        "n": 0.0,
        "n_other": 0.0,
    }
    row |= {"measure": "days from first contact to qualified, median", "verdict": "not enough evidence"}
    if not len(leads):
        return row
    cycles, _ = lead_cycles(leads, opportunities.assign(won=opportunities["status"] == "won"), as_of)
    rows = _sided(cycles[cycles["qualified_days"].notna()], side, family)
    unit, units = pd.factorize(rows["family_id"].astype("str"), sort=True)
    weights = draw_weights(len(units), REPLICATES, seed)[:, unit]
    draws, enough = {}, True
    for name, key in (("one", INSIDE), ("other", OUTSIDE)):
        kept = (rows["side"] == key).to_numpy()
        if not kept.any():
            return row
        days = rows.loc[kept, "qualified_days"].to_numpy(dtype=float)
        draws[name] = quantile_draws(days, weights[:, kept], 0.5)
        ends = percentile(draws[name], widened(len(np.unique(unit[kept]))))
        row |= {name: float(np.median(days)), f"{name}_low": float(ends[0]), f"{name}_high": float(ends[1])}
        row["n" if name == "one" else "n_other"] = float(kept.sum())
        enough &= bool(kept.sum() >= settings.plan.minimum_n)
    low, high = (float(e) for e in percentile(draws["one"] - draws["other"]))
    row |= {"difference": row["one"] - row["other"], "difference_low": low, "difference_high": high}
    return row | {"verdict": _verdict(low, high, enough=enough, higher=False)}
