"""Reads leads, stages and opportunities, makes the journey of each segment and ICP: awareness, evaluation, purchase, expansion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.performance.prepare import lead_cycles, stage_dates
from icplab.performance.steps import FUNNEL_DAYS
from icplab.performance.tally import tally

PARTS = ("awareness", "evaluation", "purchase", "expansion")
PASSES = {
    "awareness": "an opportunity is opened",
    "evaluation": "a stage of purchase is entered",
    "purchase": "it is won",
    "expansion": "the customer buys again",
}
COLUMNS = {
    **dict.fromkeys(("of", "level", "part", "passes_when"), "str"),
    **dict.fromkeys(("within_days", "n", "value", "low", "high", "median_days"), "float64"),
    **dict.fromkeys(("mostly", "lost_because"), "str"),
    "content": "float64",
    "status": "str",
}


def measure_journey(
    opportunities: pd.DataFrame,
    levels: Mapping[str, pd.Series],
    tables: Mapping[str, pd.DataFrame],
    settings: Settings,
    as_of: pd.Timestamp,
    names: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """How accounts of each level pass through the four parts of the journey, and where they fall out.

    Parameters
    ----------
    opportunities : DataFrame
        One row per opportunity.
    levels : mapping
        Level of each account (index account_id) by what it is a level of, such as `segment` and `icp`.
    tables : mapping
        Canonical `leads, stage_history, opportunity_contacts, content`; each may be empty.
    settings : Settings
        `[stages]` of the playbook says which CRM stages are evaluation and purchase (default: the later half of the
        stages is purchase); `[plan] horizon_days`, `minimum_n`.
    names : mapping, optional
        What levels are called (segment names).

    Returns
    -------
    DataFrame
        One row per level and part: `of, level, part, passes_when, within_days, n` (entered at least that long ago),
        `value` (share that passed on in time), `low, high, median_days` (of those who passed), `mostly` (channel, roles or
        product most often seen), `lost_because` (reason given most often by those who fell out), `content` (assets for
        the level and part), `status`.
    """
    events = pd.concat(_events(opportunities, tables, settings, as_of), ignore_index=True)
    events = events.astype(
        dict.fromkeys(("entered", "passed"), "datetime64[us]")
    )  # an empty table has no type of its own
    parts = [_of(name, level, events, tables["content"], settings, as_of) for name, level in levels.items()]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({c: [] for c in COLUMNS})
    table = table.assign(level=table["level"].map(dict(names or {})).astype("str").fillna(table["level"]))
    return table[list(COLUMNS)].astype(COLUMNS)


def _events(
    opportunities: pd.DataFrame, tables: Mapping[str, pd.DataFrame], settings: Settings, as_of: pd.Timestamp
) -> list[pd.DataFrame]:
    """One row per entry into a part: `part, account_id, family_id, entered, passed, within, reason, seen`."""
    known = opportunities[opportunities["created_at"].notna()].sort_values("opportunity_id", ignore_index=True)
    if not settings.dated:
        known = known.iloc[:0]
    horizon = settings.plan.horizon_days
    family = opportunities.drop_duplicates("account_id").set_index("account_id")["family_id"]
    bought = _purchase_dates(known, tables["stage_history"], settings, as_of)
    won = known["closed_at"].where(known["status"] == "won")
    reason = known["loss_reason"].where(known["status"] == "lost")
    seen = known["opportunity_id"].map(_main_roles(tables["opportunity_contacts"]))
    own = {"account_id": known["account_id"], "family_id": known["family_id"], "seen": seen}
    evaluated = pd.DataFrame({"part": "evaluation", "entered": known["created_at"], "passed": bought, **own})
    evaluated["reason"] = reason.where(bought.isna())
    asked = pd.DataFrame({"part": "purchase", "entered": bought, "passed": won, "reason": reason, **own})
    again = _repeats(known[known["status"] == "won"]).assign(part="expansion")
    aware = _awareness(tables["leads"], opportunities, as_of)
    aware["family_id"] = aware["account_id"].map(family).astype("str").fillna(aware["account_id"])
    return [
        aware.assign(within=float(FUNNEL_DAYS)),
        evaluated.assign(within=float(horizon)),
        asked.assign(within=float(horizon)),
        again.assign(within=float(horizon)),
    ]


def _awareness(leads: pd.DataFrame, opportunities: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    if not len(leads):
        return pd.DataFrame({c: [] for c in ("part", "account_id", "entered", "passed", "reason", "seen")})
    cycles, names = lead_cycles(leads, opportunities.assign(won=opportunities["status"] == "won"), as_of)
    by = leads.drop_duplicates("lead_id").set_index("lead_id")
    passed = cycles[f"step_{names.index('opportunity')}"]
    reason = cycles["lead_id"].map(by["disqualification_reason"]).where(passed.isna())
    seen, entered = cycles["lead_id"].map(by["source"]), cycles["step_0"]
    whose = {"part": "awareness", "account_id": cycles["account_id"]}
    return pd.DataFrame({**whose, "entered": entered, "passed": passed, "reason": reason, "seen": seen})


def _purchase_dates(known: pd.DataFrame, history: pd.DataFrame, settings: Settings, as_of: pd.Timestamp) -> pd.Series:
    """Day each opportunity entered the first stage of purchase or a later one."""
    dates, names = stage_dates(history, known.assign(won=known["status"] == "won"), as_of)
    won = known["closed_at"].where(known["status"] == "won")
    if len(names) < 2:
        return won
    given = settings.playbook.get("stages")
    wanted = given.get("purchase", ()) if isinstance(given, Mapping) else ()
    lowered = [str(s).strip().lower() for s in wanted] if isinstance(wanted, Sequence) else []
    place = next((i for i, n in enumerate(names) if str(n).strip().lower() in lowered), len(names) // 2)
    return dates[f"step_{place}"].fillna(won)


def _main_roles(people: pd.DataFrame) -> pd.Series:
    """Roles on each opportunity, as one text."""
    rows = (
        people[people["role"].notna()]
        .drop_duplicates(["opportunity_id", "role"])
        .sort_values(["opportunity_id", "role"])
    )
    return rows.groupby("opportunity_id")["role"].agg(", ".join)


def _repeats(won: pd.DataFrame) -> pd.DataFrame:
    """Per customer: the day of the first purchase and of the next one, and what it was."""
    rows = won[won["account_id"].notna()].sort_values(["account_id", "closed_at", "opportunity_id"], kind="stable")
    later = rows.groupby("account_id")[["closed_at", "product"]].shift(-1)
    rows = rows.assign(passed=later["closed_at"], seen=later["product"], entered=rows["closed_at"], reason=None)
    return rows.drop_duplicates("account_id")[["account_id", "family_id", "entered", "passed", "reason", "seen"]]


def _of(
    name: str, level: pd.Series, events: pd.DataFrame, content: pd.DataFrame, settings: Settings, as_of: pd.Timestamp
) -> pd.DataFrame:
    """The journey of every level of one kind."""
    rows = events.assign(level=events["account_id"].map(level).astype("str"))
    rows = rows[rows["level"].notna() & rows["entered"].notna()]
    days = (rows["passed"] - rows["entered"]).dt.days.astype("float64")
    within = rows["within"].to_numpy(dtype=float)
    ripe = ((as_of - rows["entered"]).dt.days >= within).to_numpy()
    hit = (days <= within).to_numpy()
    keys = ["level", "part"]
    table = tally(rows[ripe], keys, hit[ripe], settings.plan.minimum_n).set_index(keys)
    by = rows.assign(days=days.where(hit)).groupby(keys, sort=True)
    table["median_days"], table["within_days"] = by["days"].median(), by["within"].first()
    table["mostly"], table["lost_because"] = _most(rows, keys, "seen"), _most(rows, keys, "reason")
    table = table.reset_index()
    assets = _assets(content, name)
    table["content"] = [
        float(assets.get((lev, part), 0)) for lev, part in zip(table["level"], table["part"], strict=True)
    ]
    if not len(content) or name != "segment":
        table["content"] = np.nan
    table = table.assign(of=name, passes_when=table["part"].map(PASSES), place=table["part"].map(PARTS.index))
    return table.sort_values(["level", "place"], kind="stable", ignore_index=True)


def _most(rows: pd.DataFrame, keys: list[str], column: str) -> pd.Series:
    """The value seen most often per group with its share of known ones, such as `no budget (31 %)`."""
    known = rows[rows[column].notna()]
    counts = known.groupby([*keys, column]).size().rename("n").reset_index()
    total = counts.groupby(keys)["n"].transform("sum")
    counts = counts.assign(share=counts["n"] / total).sort_values(
        [*keys, "n", column], ascending=[True, True, False, True], kind="stable"
    )
    first = counts.drop_duplicates(keys).set_index(keys)
    said = (
        first[column].astype("str") + " (" + (100 * first["share"]).round().astype("int64").astype("str") + "\u202f%)"
    )
    return said.astype("str")


def _assets(content: pd.DataFrame, name: str) -> dict[tuple[str, str], int]:
    """Content assets per level and part of the journey; the level is what the asset names."""
    if name != "segment" or not len(content):
        return {}
    rows = content[content["segment"].notna() & content["stage"].notna()]
    counts = rows.groupby([rows["segment"].astype("str"), rows["stage"].astype("str").str.strip().str.lower()]).size()
    levels, parts = (counts.index.get_level_values(i).astype("str") for i in (0, 1))
    return dict(zip(zip(levels, parts, strict=True), counts.astype("int64").tolist(), strict=True))
