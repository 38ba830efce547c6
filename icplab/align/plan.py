"""Reads settings and the intake's ledger, makes the analysis plan with its hash, goals and ledger as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from icplab.core import formats
from icplab.core.config import Settings
from icplab.core.schema import ARTEFACTS, DTYPES

# Outcomes of physical records, and how the page heads them.
OUTCOMES = {
    "used": "used",
    "header": "header",
    "blank": "blank",
    "preamble": "preamble",
    "footer": "footer",
    "repeated_header": "repeated header",
    "duplicate": "duplicate",
    "quarantined": "set aside",
}


def draft_plan(settings: Settings) -> dict[str, Any]:
    """The analysis plan: everything decided before looking at the data, and its hash.

    Parameters
    ----------
    settings : Settings
        `goals, plan, capacity, economics, value`.

    Returns
    -------
    dict
        `goals, plan, capacity, economics, value` as given, `plan_hash` (SHA-256 over them), `defaults_taken` (sections
        of `icplab.toml` that were not given), `rules` (what is decided with them, in sentences). What a report says
        beyond these lines is exploratory.
    """
    decided = {name: asdict(getattr(settings, name)) for name in ("goals", "plan", "capacity", "economics", "value")}
    return {
        **decided,
        "plan_hash": settings.plan_hash(),
        "defaults_taken": list(settings.defaults_taken),
        "rules": _rules(settings),
    }


def compare_plans(plan: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> pd.DataFrame:
    """Lines in which a plan differs from an earlier one: `line, before, now`, in the order of the plan.

    What rests on such a line was decided after data had been seen, so it is exploratory. Without an earlier plan nothing
    differs. A line that only one of the two versions of icplab knows is left out.
    """
    rows = []
    for section, decided in plan.items() if earlier else ():
        before = (earlier or {}).get(section)
        if not isinstance(decided, Mapping) or not isinstance(before, Mapping):
            continue
        for key, value in decided.items():
            if key in before and _same(value) != _same(before[key]):
                rows.append((f"{section}.{key}", _same(before[key]), _same(value)))
    return pd.DataFrame(rows, columns=["line", "before", "now"]).astype("str")


def list_goals(settings: Settings) -> pd.DataFrame:
    """Goals and trade-offs as a table `goal, value, meaning`, one row each, what was not given said so."""
    goals, capacity = settings.goals, settings.capacity
    rows = (
        ("growth target", _percent(goals.growth_target), "won revenue, next year against this one"),
        ("margin floor", _percent(goals.margin_floor), "segments below this gross margin are screened"),
        ("strategic bets", ", ".join(goals.strategic_bets), ""),
        ("product focus", ", ".join(goals.product_focus), ""),
        ("constraints", ", ".join(goals.constraints), ""),
        (
            "deal size against velocity",
            f"{goals.deal_size_vs_velocity:.2f}",
            "1: only deal size counts, 0: only velocity",
        ),
        ("land against expand", f"{goals.land_vs_expand:.2f}", "1: only new customers count, 0: only expansion"),
        ("capacity of tier 1", _count(capacity.tier_1), "accounts the team can work in a quarter"),
        ("capacity of tier 2", _count(capacity.tier_2), "accounts the team can work in a quarter"),
    )
    return pd.DataFrame(
        [(goal, formats.plain(value) or "not given", meaning) for goal, value, meaning in rows],
        columns=["goal", "value", "meaning"],
    ).astype("str")


def list_rules(plan: Mapping[str, Any]) -> pd.DataFrame:
    """The sentences of a plan as a table `rule`, one row each."""
    return pd.DataFrame({"rule": plan["rules"]}).astype("str")


def build_ledger(inputs: Mapping[str, Any]) -> pd.DataFrame:
    """The artefact `ledger` from the intake's books: records per table, file and outcome."""
    columns = {c.name: DTYPES[c.kind] for c in ARTEFACTS["ledger"].columns}
    ledger = pd.DataFrame(list(inputs.get("ledger", [])), columns=list(columns)).astype(columns)
    return ledger.groupby(["table", "file", "outcome"], sort=True)["records"].sum().reset_index()


def show_ledger(ledger: pd.DataFrame) -> pd.DataFrame:
    """The ledger with one line per table and file, and their total: all physical records, then each outcome.

    Parameters
    ----------
    ledger : DataFrame
        The artefact `ledger`.

    Returns
    -------
    DataFrame
        `table, file, records` and a column of counts for each outcome in `OUTCOMES`; the outcomes of a line add up to its
        records. With more than one line, the last is their total; empty for an empty ledger.
    """
    counts = ledger.pivot_table(index=["table", "file"], columns="outcome", values="records", aggfunc="sum", sort=False)
    wide = counts.reindex(columns=list(OUTCOMES)).fillna(0).astype("int64")
    wide.insert(0, "records", wide.sum(axis=1))
    lines = wide.reset_index().rename_axis(columns=None).rename(columns=OUTCOMES)
    if len(lines) < 2:
        return lines
    total = {"table": "total", "file": f"{len(lines):,} lines", **wide.sum().rename(OUTCOMES)}
    return pd.concat([lines, pd.DataFrame([total])], ignore_index=True)


def say_rejects(inputs: Mapping[str, Any]) -> str:
    """Where the records stand that were set aside, and how many rows the list has: one per record and reason."""
    rows = int(inputs["rejects"])
    if not rows:
        return "No record was set aside: rejects.csv holds no row."
    return (
        f"rejects.csv, among the artefacts of the run, lists what was set aside with file, record, line, column and reason: "
        f"{rows:,} {'row' if rows == 1 else 'rows'}, one for each record and reason."
    )


def _rules(settings: Settings) -> list[str]:
    plan = settings.plan
    window = f"the last {plan.window_days} days" if plan.window_days else "all history"
    return [
        f"A win counts when it comes within {plan.horizon_days} days of creation; open opportunities are censored.",
        f"Key figures look back over {window}.",
        f"Rates and days need {plan.minimum_n} observations, money and ratios {plan.minimum_n_money}.",
        f"At most {plan.max_segments} segments, each of at least {plan.min_segment_accounts} accounts.",
        f"Among supported traits at most {plan.fdr:.0%} false discoveries are accepted.",
        f"At most {plan.alarms_per_year:g} false alarms a year and family of figures.",
        f"The value metric is {plan.value_metric}.",
        _capacities(settings),
        f"Traits looked at: {', '.join(plan.candidates) or 'every column that is not excluded'}; "
        f"never used: {', '.join(plan.excluded) or 'none named'}.",
        f"Key figures are cut by {', '.join(plan.cuts) or 'the columns that are filled best and have few levels'}.",
    ]


def _capacities(settings: Settings) -> str:
    given = {
        "tier 1": settings.capacity.tier_1,
        "tier 2": settings.capacity.tier_2,
        "tier 3": settings.capacity.tier_3,
    }
    known = [f"{tier} {formats.integer(n)}" for tier, n in given.items() if n is not None]
    said = f"Accounts the team can work in a quarter: {', '.join(known)}."
    return said if known else "No capacity is given: tier 1 is the best fifth of the accounts."


def _same(value: object) -> str:
    """A setting as text, the same whether it was read from a file or from JSON."""
    if isinstance(value, list | tuple):
        return ", ".join(_same(v) for v in value) or "none"
    return (
        "not given" if value is None else f"{value:g}" if isinstance(value, int | float) else formats.plain(value, 120)
    )


def _percent(value: float | None) -> str:
    return "" if value is None else formats.percent(value)


def _count(value: int | None) -> str:
    return "" if value is None else formats.integer(value)
