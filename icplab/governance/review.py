"""Reads this run, the one before, the plan and the council's register; makes what changed and what to decide.

Comparisons are made with what was expected then, never with a lucky or unlucky quarter; alarms keep their error rate however
often one looks (e-processes).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core import formats
from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.core.schema import ALL, TIERS
from icplab.core.stats.intervals import wilson

STEP = "70_governance"
TIER_ORDER = TIERS[:3]
# Prior of the betting mixture over the share of plan that is reached: misses worth an alarm reach 40 to 80 % of it. Among five
# priors tried at 60 closed opportunities a quarter it was the quickest on a fall from 25 % to 15 %.
BET_PRIOR = (3, 2)
BET_GRID = 400
# KPIs of the comparison: the ones a council discusses.
COMPARED = (
    ("win_rate", "closed"),
    ("win_rate", "within"),
    ("acv", "median"),
    ("cycle_days", "won_median"),
    ("grr", ""),
    ("nrr", ""),
    ("cac", ""),
    ("ltv_cac", ""),
)


@dataclass(frozen=True)
class Review:
    """All tables of the review; each is empty where its inputs are."""

    kpis: pd.DataFrame
    moves: pd.DataFrame
    backtest: pd.DataFrame
    plan: pd.DataFrame
    watch: pd.DataFrame
    decisions: pd.DataFrame
    maturity: pd.DataFrame


def compare_kpis(now: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Company-wide key figures of two runs side by side.

    Parameters
    ----------
    now, before : artefact `kpis` of two runs; rows of cut `all`, period `all`, status ok are compared.

    Returns
    -------
    DataFrame, one row per kpi and basis: kpi, basis, unit, before, now, low, high (interval now), moved (before lies outside
    the interval of now). Windows overlap, so `moved` is cautious: it can miss a change, it rarely invents one.
    """
    keys = ["kpi", "basis"]
    wide = _headline(now).merge(_headline(before)[[*keys, "value"]], on=keys, suffixes=("", "_before"))
    wide = wide.rename(columns={"value": "now", "value_before": "before"})
    wide["moved"] = (wide["before"] < wide["low"]) | (wide["before"] > wide["high"])
    return wide[[*keys, "unit", "before", "now", "low", "high", "moved"]].reset_index(drop=True)


def compare_tiers(now: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Accounts by tier then and now: from, to, accounts, share (of those from). Accounts in both runs only."""
    both = now[["account_id", "tier"]].merge(before[["account_id", "tier"]], on="account_id", suffixes=("", "_before"))
    moves = both.groupby(["tier_before", "tier"]).size().rename("accounts").reset_index()
    moves["share"] = moves["accounts"] / moves.groupby("tier_before")["accounts"].transform("sum")
    return moves.rename(columns={"tier_before": "from", "tier": "to"})


def backtest_tiers(before: pd.DataFrame, opportunities: pd.DataFrame, since: pd.Timestamp) -> pd.DataFrame:
    """What the tiers of an earlier run delivered: opportunities created after it and closed by now.

    Parameters
    ----------
    before : artefact `scores` of the earlier run
    opportunities : as known now
    since : as-of date of the earlier run; only opportunities created after it count, so nothing was known beforehand

    Returns
    -------
    DataFrame, one row per tier in order: tier, opportunities, won, lost, observed (won / closed), low, high (Wilson, 95 %),
    predicted (mean win probability within the horizon of those closed). Fast closers come first, so observed and predicted
    are not the same quantity until a horizon has passed; the order of the tiers is what can be read.
    """
    later = opportunities[(opportunities["created_at"] > since) & opportunities["account_id"].notna()]
    joined = later.merge(before[["account_id", "tier", "win_probability"]], on="account_id")
    closed = joined[joined["status"] != "open"]
    closed = closed.assign(is_won=(closed["status"] == "won").astype("int64"))
    rows = closed.groupby("tier").agg(
        opportunities=("status", "size"),
        won=("is_won", "sum"),
        predicted=("win_probability", "mean"),
    )
    rows = rows.reindex([t for t in TIERS if t in rows.index])
    rows["lost"] = rows["opportunities"] - rows["won"]
    rows["observed"] = rows["won"] / rows["opportunities"]
    low, high = wilson(rows["won"].to_numpy(float), rows["opportunities"].to_numpy(float))
    rows["low"], rows["high"] = low, high
    columns = ["tier", "opportunities", "won", "lost", "observed", "low", "high", "predicted"]
    return rows.reset_index()[columns]


def measure_plan(targets: pd.DataFrame, kpis: pd.DataFrame) -> pd.DataFrame:
    """Plan against actual, for each target whose attainment was measured (`attainment` in the artefact `kpis`).

    Returns
    -------
    DataFrame, one row per target: period, metric, level (segment, tier or all), target, actual, attainment (actual / target;
    null when the plan is 0), low, high (interval of the attainment where the KPI has one), short (the whole interval is
    below 1; a figure without interval is never called short). The performance step turns gaps into findings.
    """
    measured = kpis[kpis["kpi"] == "attainment"].rename(columns={"basis": "metric", "value": "attainment"})
    keys = ["period", "metric", "cut", "level"]
    rows = _planned(targets)[[*keys, "target"]].merge(measured[[*keys, "attainment", "low", "high"]], on=keys)
    rows["actual"] = rows["attainment"] * rows["target"]
    rows["short"] = rows["high"] < 1
    columns = ["period", "metric", "level", "target", "actual", "attainment", "low", "high", "short"]
    return rows[columns].sort_values(["period", "metric", "level"], ignore_index=True)


def watch_rate(wins: npt.ArrayLike, deals: npt.ArrayLike, plan: npt.ArrayLike) -> np.ndarray:
    """Evidence, after each period, that a rate has fallen below its plan.

    An e-process: under rates at or above plan, P(it ever reaches 1/a) ≤ a, however often one looks (Ville's inequality). It
    bets on the rate being a fraction c of the plan, mixed over c in (0, 1) with a Beta(3, 2) prior. Source: Ramdas et al.,
    Game-theoretic statistics and safe anytime-valid inference, Statistical Science 2023, §3.

    Parameters
    ----------
    wins, deals : per period, in order
    plan : planned rate, one or per period, strictly between 0 and 1

    Returns
    -------
    array of e-values, cumulative over periods. An alarm at yearly budget a is e ≥ 1/a.
    """
    won, closed = np.asarray(wins, float), np.asarray(deals, float)
    rate = np.broadcast_to(np.asarray(plan, float), won.shape)
    if ((rate <= 0) | (rate >= 1)).any():
        raise ValueError(f"plan {plan!r} must lie strictly between 0 and 1")
    share = (np.arange(BET_GRID) + 0.5) / BET_GRID
    prior = share ** (BET_PRIOR[0] - 1) * (1 - share) ** (BET_PRIOR[1] - 1)
    lost_odds = np.log1p(-np.outer(rate, share)) - np.log1p(-rate)[:, None]
    log_bet = np.cumsum(np.outer(won, np.log(share)) + (closed - won)[:, None] * lost_odds, axis=0)
    top = log_bet.max(axis=1, keepdims=True)
    return np.exp(top[:, 0]) * (np.exp(log_bet - top) @ (prior / prior.sum()))


def watch_plan(targets: pd.DataFrame, kpis: pd.DataFrame) -> pd.DataFrame:
    """Planned win rates under always-valid watch.

    Returns
    -------
    DataFrame, one row per level with a win-rate plan: level, quarters (with plan and closed opportunities), won, deals, plan
    (of the last quarter), e_value.
    """
    planned = _planned(targets)
    planned = planned[(planned["metric"] == "win_rate") & planned["target"].between(0, 1, inclusive="neither")]
    counts = kpis[kpis["kpi"].isin(["won", "lost"])].pivot_table(
        index=["cut", "level", "period"], columns="kpi", values="value", aggfunc="first"
    )
    rows = planned.merge(counts.reset_index(), on=["cut", "level", "period"]).sort_values(["level", "period"])
    results = [
        {
            "level": level,
            "quarters": len(group),
            "won": group["won"].sum(),
            "deals": (group["won"] + group["lost"]).sum(),
            "plan": group["target"].iloc[-1],
            "e_value": float(watch_rate(group["won"], group["won"] + group["lost"], group["target"])[-1]),
        }
        for level, group in rows.groupby("level")
    ]
    return pd.DataFrame(results, columns=["level", "quarters", "won", "deals", "plan", "e_value"])


def check_register(decisions: Sequence[Mapping]) -> int | None:
    """Line (from 1) at which the register's chain of hashes breaks, or None when it is whole."""
    previous = ""
    for line, entry in enumerate(decisions, start=1):
        body = {k: v for k, v in entry.items() if k != "hash"}
        if entry.get("prev", "") != previous or entry.get("hash") != hash_decision(body):
            return line
        previous = entry["hash"]
    return None


def hash_decision(body: Mapping) -> str:
    """SHA-256 of a decision's canonical JSON; `prev` is part of it, so lines hold each other."""
    text = json.dumps(dict(body), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def review_decisions(decisions: Sequence[Mapping], kpis: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Decisions of the council with what they expected and what came.

    Returns
    -------
    DataFrame, one row per decision and expected KPI: at, what, who, review, due (review date reached), expected (kpi), wanted,
    actual, low, high (null where the KPI is not measured), reached (yes, no, or not enough evidence).
    """
    measured = _first_basis(kpis[(kpis["cut"] == ALL) & (kpis["period"] == ALL)]).set_index("kpi")
    rows = [
        {
            "at": entry.get("at", ""),
            "what": entry.get("what", ""),
            "who": entry.get("who", ""),
            "review": entry.get("review", ""),
            "due": bool(entry.get("review")) and pd.Timestamp(entry["review"]) <= as_of,
            "expected": kpi,
            "wanted": wanted,
            **_against(measured, kpi.split("/")[0], wanted),
        }
        for entry in decisions
        for kpi, wanted in (entry.get("expect") or {"": None}).items()
    ]
    columns = ["at", "what", "who", "review", "due", "expected", "wanted", "actual", "low", "high", "reached"]
    return pd.DataFrame(rows, columns=columns)


def findings(
    review: Review,
    *,
    settings: Settings,
    as_of: pd.Timestamp,
    previous_as_of: pd.Timestamp | None,
    register: Sequence[Mapping],
) -> list[Finding]:
    """What the council has to know: comparison, backtest, plan, decisions due, cadence."""
    return [
        *_cadence_findings(as_of, previous_as_of, settings),
        *_change_findings(review.kpis, previous_as_of),
        *_backtest_findings(review.backtest),
        *_watch_findings(review.watch, settings),
        *_decision_findings(review.decisions, register),
    ]


def _headline(kpis: pd.DataFrame) -> pd.DataFrame:
    rows = kpis[(kpis["cut"] == ALL) & (kpis["period"] == ALL) & (kpis["status"] == "ok")]
    named = pd.MultiIndex.from_arrays([rows["kpi"], rows["basis"].str.replace(r"_\d+d$", "", regex=True)])
    wanted = {kpi for kpi, basis in COMPARED if not basis}
    return rows[named.isin(COMPARED) | rows["kpi"].isin(wanted).to_numpy()]


def _planned(targets: pd.DataFrame) -> pd.DataFrame:
    """Targets of segments, tiers or the whole company, with the cut and level of `kpis` they speak of."""
    rows = targets[targets["owner"].isna()]
    by_tier = rows["tier"].notna()
    return rows.assign(
        cut=np.where(rows["segment"].notna(), "segment", np.where(by_tier, "tier", ALL)),
        level=rows["segment"].fillna(rows["tier"]).fillna(ALL),
    )


def _first_basis(kpis: pd.DataFrame) -> pd.DataFrame:
    """One row per cut, level, period and kpi: the horizon-based or first measured basis."""
    measured = kpis[(kpis["status"] == "ok") & kpis["value"].notna()]
    rank = measured["basis"].map({"closed": 0, "mean": 0, "won_median": 0}).fillna(1)
    ordered = measured.assign(rank=rank).sort_values(["rank", "basis"], kind="stable")
    return ordered.drop_duplicates(["cut", "level", "period", "kpi"]).drop(columns="rank")


def _against(measured: pd.DataFrame, kpi: str, wanted: float | None) -> dict:
    if kpi not in measured.index or wanted is None:
        return {"actual": np.nan, "low": np.nan, "high": np.nan, "reached": "not enough evidence"}
    row = measured.loc[kpi]
    reached = "yes" if row["low"] >= wanted else "no" if row["high"] < wanted else "not enough evidence"
    return {"actual": row["value"], "low": row["low"], "high": row["high"], "reached": reached}


def _cadence_findings(as_of: pd.Timestamp, previous: pd.Timestamp | None, settings: Settings) -> Iterable[Finding]:
    if previous is None:
        yield Finding(
            "no-earlier-run",
            STEP,
            "info",
            "history",
            "There is no earlier run to compare with; the check of the tiers on a later period is a reconstruction.",
            action="Keep this run: the next one compares itself with it.",
        )
        return
    days = (as_of - previous).days
    if days > 1.5 * settings.calendar.review_every_days:
        yield Finding(
            "review-overdue",
            STEP,
            "watch",
            "cadence",
            f"The last review was {days} days ago; the plan asks for one every {settings.calendar.review_every_days}.",
            {"days": days, "every": settings.calendar.review_every_days},
            action="Hold the council now and set the next date.",
        )


def _change_findings(kpis: pd.DataFrame, previous: pd.Timestamp | None) -> Iterable[Finding]:
    if previous is None or kpis.empty:
        return
    moved = kpis[kpis["moved"]]
    names = ", ".join(formats.name(f"{kpi} {basis}") for kpi, basis in zip(moved["kpi"], moved["basis"], strict=True))
    since = f"beyond their interval since {formats.date(previous)}"
    none = f"None of {len(kpis)} key figures moved {since}."
    yield Finding(
        "compared-with-earlier",
        STEP,
        "info",
        "key figures",
        f"{len(moved)} of {len(kpis)} key figures moved {since}: {names}." if len(moved) else none,
        {"compared": len(kpis), "moved": len(moved)},
        action="Discuss only what moved; the rest is noise.",
    )


def _backtest_findings(backtest: pd.DataFrame) -> Iterable[Finding]:
    rows = backtest.set_index("tier").reindex(TIER_ORDER).dropna(subset=["observed"])
    rows = rows[rows["opportunities"] >= 20]
    if len(rows) < 2:
        return
    best, worst = rows.iloc[0], rows.iloc[-1]
    numbers = {
        "best": best["observed"],
        "best_n": int(best["opportunities"]),
        "worst": worst["observed"],
        "worst_n": int(worst["opportunities"]),
    }
    sentence = (
        f"Of the opportunities opened since the last run and closed by now, {rows.index[0]} won {best['observed']:.0%} "
        f"(n = {int(best['opportunities'])}) and {rows.index[-1]} {worst['observed']:.0%} (n = {int(worst['opportunities'])})."
    )
    if best["high"] < worst["low"]:
        yield Finding(
            "backtest-miss", STEP, "act", "tiers", sentence, numbers, action="Refit the scorecard before the next list."
        )
    elif best["low"] > worst["high"]:
        yield Finding("backtest-hit", STEP, "info", "tiers", sentence, numbers, action="Keep the tiers.")


def _watch_findings(watch: pd.DataFrame, settings: Settings) -> Iterable[Finding]:
    """Alarms on planned win rates; the yearly budget is shared by the series watched."""
    limit = len(watch) / settings.plan.alarms_per_year if len(watch) else 0
    for row in watch[watch["e_value"] >= limit].to_dict("records"):
        yield Finding(
            "drift",
            STEP,
            "act",
            f"win rate, {row['level']}",
            f"Over {row['quarters']} quarters, {row['won']:.0f} of {row['deals']:.0f} closed opportunities of {row['level']} were won, against "
            f"a plan of {row['plan']:.0%}: the evidence that the rate has fallen below plan is {row['e_value']:.0f} to 1.",
            {"won": row["won"], "deals": row["deals"], "plan": row["plan"], "e_value": row["e_value"]},
            action="Look for the cause by segment and source before changing the plan.",
        )


def _decision_findings(decisions: pd.DataFrame, register: Sequence[Mapping]) -> Iterable[Finding]:
    broken = check_register(register)
    if broken is not None:
        yield Finding(
            "definition-conflict",
            STEP,
            "act",
            "decisions.jsonl",
            f"The register of decisions was changed after it was written: the chain breaks at line {broken}.",
            {"line": broken},
            action="Restore the register from its last good copy.",
        )
    for row in decisions[decisions["due"]].drop_duplicates(["at", "what"]).to_dict("records"):
        yield Finding(
            "decision-due",
            STEP,
            "info",
            row["what"],
            f"The decision of {row['at']} is due for review since {row['review']}; expected {row['expected'] or 'nothing'}: {row['reached']}.",
            {"review": row["review"], "reached": row["reached"]},
            owner=row["who"],
            action="Confirm, change or withdraw it in the council.",
        )
