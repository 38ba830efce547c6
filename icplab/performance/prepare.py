"""Reads the tables of a measurement, makes facts of each: what happened when, in the reporting currency."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.schema import CANONICAL
from icplab.performance.cuts import quarter_of

# A loss without a rival: left out of the narrow closed basis, kept in the broad one.
NO_DECISION = re.compile(r"no[\s_-]*decision|derail|stalled|went[\s_-]*dark|status[\s_-]*quo|project[\s_-]*cancel")
MEETING = re.compile(r"meeting|demo")
# What sellers spend time on, as against what buyers do by themselves (page visits, downloads, searches).
SELLING = re.compile(r"\bcall|mail|meeting|demo|\btask|on[\s_-]?site")
TIMED = 0.5  # minutes stand for effort where at least this share of what sellers did carries them, else each event counts one
DATE = "datetime64[us]"
ENDED = re.compile(r"\bwon\b|\blost\b|closed")  # stages that name an outcome
MAX_STAGES = 10
CYCLE_DAYS = 90  # a lead of the same account after a longer gap begins a new cycle
FUNNEL = ("lead", "qualified", "accepted", "opportunity", "won")


def no_decision(opportunities: pd.DataFrame) -> pd.Series:
    """Whether an opportunity was lost without a decision for anybody, by its loss reason."""
    reason = opportunities["loss_reason"].astype("str").str.lower()
    return (opportunities["status"] == "lost") & reason.str.contains(NO_DECISION).fillna(False).astype(bool)


def or_empty(name: str, frame: pd.DataFrame | None) -> pd.DataFrame:
    return CANONICAL[name].empty() if frame is None or not len(frame.columns) else frame


def opportunity_facts(
    frame: pd.DataFrame, settings: Settings, as_of: pd.Timestamp, start: pd.Timestamp | None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Opportunities by id with what happened and when; and the quarters they are counted in."""
    frame = frame.sort_values("opportunity_id", ignore_index=True)
    won = frame["status"] == "won"
    dates = frame["closed_at"].where(frame["status"] != "open")
    days = (dates.fillna(as_of) - frame["created_at"]).dt.days.astype("float64")
    first = frame[won].sort_values(["closed_at", "opportunity_id"], kind="stable").drop_duplicates("account_id")
    names = quarter_of(dates, settings.calendar.fiscal_year_start)
    inside = names[dates > start] if start is not None else names
    earliest = min(inside.dropna().unique(), default="")
    quarters = tuple(sorted(n for n in names.dropna().unique() if n >= earliest))
    frame = frame.assign(
        closed_at=dates,
        open=frame["status"] == "open",
        won=won,
        lost=frame["status"] == "lost",
        new=frame["type"] == "new",
        no_decision=no_decision(frame),
        days=days.where(days >= 0),
        cause=frame["status"].map({"won": 1, "lost": 2, "open": 0}).astype("int64"),
        new_logo=frame["opportunity_id"].isin(first.loc[first["account_id"].notna(), "opportunity_id"]),
        quarter=pd.Index(quarters, dtype="str").get_indexer(pd.Index(names)),
    )
    return frame, quarters


def no_meetings(activities: pd.DataFrame) -> str:
    if not len(activities):
        return "there is no activities table"
    named = activities["type"].str.lower().str.contains(MEETING).fillna(False)
    return "" if named.any() else "no type of activity is called meeting or demo"


def accounts_reached(activities: pd.DataFrame, as_of: pd.Timestamp, start: pd.Timestamp | None) -> pd.DataFrame:
    """Accounts with any activity in the window, and whether one of them was a meeting."""
    dates = activities["occurred_at"]
    recent = activities[(dates <= as_of) & (True if start is None else dates > start)]
    met = recent["type"].str.lower().str.contains(MEETING).fillna(False).astype(bool)
    return met.groupby(recent["account_id"]).any().rename("met").reset_index()


def lead_facts(leads: pd.DataFrame) -> pd.DataFrame:
    accepted = leads["accepted_at"].notna()
    return leads.assign(accepted=accepted, rejected=~accepted & leads["disqualified_at"].notna())


def in_home_currency(
    frame: pd.DataFrame, money: str, dated: str, rates: pd.DataFrame, settings: Settings
) -> tuple[pd.DataFrame, str]:
    """Money in the reporting currency, or the reason why it cannot be had."""
    home = settings.workspace.currency
    foreign = frame["currency"].notna() & (frame["currency"] != home)
    if not foreign.any() or (not home and frame["currency"].nunique() == 1):
        return frame, ""
    known = rates.rename(columns={"valid_from": dated})[["currency", dated, "rate"]].sort_values(dated, kind="stable")
    wanted = frame.reset_index(names="row").sort_values(dated, kind="stable")[["row", "currency", dated]]
    found = pd.merge_asof(wanted, known, on=dated, by="currency").set_index("row")["rate"].reindex(frame.index)
    rate = found.where(foreign, 1.0)
    if not home or rate.isna().any():
        lacking = int(rate.isna().sum()) if home else len(frame)
        return frame, f"{lacking} rows are in a currency without an exchange rate"
    return frame.assign(**{money: frame[money] * rate}), ""


def effort_by_month(
    effort: pd.DataFrame | None, activities: pd.DataFrame, as_of: pd.Timestamp
) -> tuple[pd.DataFrame, str]:
    """What sellers did per account and month: minutes where they are written down, else events; and which of the two."""
    if effort is None or not len(effort.columns):
        done = activities[(activities["occurred_at"] <= as_of) & activities["account_id"].notna()]
        effort = pd.DataFrame(
            {
                "account_id": done["account_id"],
                "month": done["occurred_at"].dt.to_period("M").dt.to_timestamp().astype(DATE),
                "type": done["type"],
                "events": 1,
                "timed": (done["minutes"] > 0).fillna(False).astype("int64"),
                "minutes": done["minutes"].fillna(0.0).astype("float64"),
            }
        )
    selling = effort["type"].astype("str").str.lower().str.contains(SELLING).fillna(False).astype(bool)
    done = effort[selling] if selling.any() else effort
    timed = len(done) > 0 and float(done["timed"].sum() / done["events"].sum()) >= TIMED
    size = done["minutes" if timed else "events"].astype("float64").rename("effort")
    return size.groupby([done["account_id"], done["month"]]).sum().reset_index(), "minutes" if timed else "events"


def stage_dates(
    history: pd.DataFrame, opportunities: pd.DataFrame, as_of: pd.Timestamp
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Day each opportunity reached each stage or a later one, winning last; a skipped stage counts as passed.

    Returns one column `step_0, step_1, ...` per stage in the order in which opportunities pass them, rows as in
    `opportunities` (empty for those without history), and the names. Stages that only say won or lost are the ending.
    """
    known = history[(history["entered_at"] <= as_of) & ~history["stage"].astype("str").str.lower().str.contains(ENDED)]
    entered = known.groupby(["opportunity_id", "stage"])["entered_at"].min().unstack()
    if not len(entered):
        return pd.DataFrame(index=opportunities.index), ()
    often = entered.notna().sum().sort_values(ascending=False, kind="stable").index[:MAX_STAGES]
    entered = entered[sorted(often)]
    names = _stage_order(entered)
    dates = entered[list(names)].reindex(opportunities["opportunity_id"]).set_axis(opportunities.index)
    has_history = dates.notna().any(axis=1)
    dates["won"] = opportunities["closed_at"].where(opportunities["won"] & has_history)
    return _reached(dates), (*names, "won")


def lead_cycles(
    leads: pd.DataFrame, opportunities: pd.DataFrame, as_of: pd.Timestamp
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """One row per account (else company, else lead) and cycle: when it reached each step of the funnel.

    Leads of one account follow each other in one cycle while gaps are at most 90 days; a later one begins a new cycle.
    Columns `lead_id, account_id, qualified_days, step_0, ...`; a skipped step counts as passed.
    """
    known = leads[leads["created_at"] <= as_of].copy()
    company = "company " + known["company"].astype("str").str.strip().str.lower()
    who = known["account_id"].astype("str").fillna(company).fillna("lead " + known["lead_id"].astype("str"))
    known = known.assign(who=who).sort_values(["who", "created_at", "lead_id"], kind="stable")
    gap = known.groupby("who")["created_at"].diff().dt.days
    cycle = (gap.isna() | (gap > CYCLE_DAYS)).cumsum()
    deals = opportunities.set_index("opportunity_id")
    at = pd.Index(known["opportunity_id"])
    known = known.assign(
        lead=known["created_at"],
        qualified=known["qualified_at"].where(known["qualified_at"] <= as_of),
        accepted=known["accepted_at"].where(known["accepted_at"] <= as_of),
        opportunity=deals["created_at"].reindex(at).to_numpy(),
        won=deals["closed_at"].where(deals["won"]).reindex(at).to_numpy(),
    )
    steps = known.groupby(cycle)[list(FUNNEL)].min()
    dates = _reached(steps)
    first = known.groupby(cycle)[["lead_id", "account_id"]].first()
    waited = (dates["step_1"] - dates["step_0"]).dt.days.astype("float64")
    return first.assign(qualified_days=waited.where(waited >= 0), **dates).reset_index(drop=True), FUNNEL


def _stage_order(entered: pd.DataFrame) -> tuple[str, ...]:
    """Stages in the order in which most opportunities pass them: by how many other stages each usually comes before."""
    days = entered.to_numpy(dtype="datetime64[D]").astype("float64")
    days[entered.isna().to_numpy()] = float("nan")
    ahead = (days[:, :, None] < days[:, None, :]).sum(axis=0)
    before = ((ahead > ahead.T).sum(axis=1) - (ahead < ahead.T).sum(axis=1)).tolist()
    return tuple(name for _, name in sorted(zip([-b for b in before], entered.columns, strict=True)))


def _reached(dates: pd.DataFrame) -> pd.DataFrame:
    """Day on which each step or a later one was reached, as `step_0, step_1, ...`."""
    values = dates.to_numpy(dtype="datetime64[us]").astype("int64")
    late = np.iinfo("int64").max
    values = np.where(dates.isna().to_numpy(), late, values)
    first = np.minimum.accumulate(values[:, ::-1], axis=1)[:, ::-1]
    reached = np.where(first == late, np.iinfo("int64").min, first).astype("datetime64[us]")
    return pd.DataFrame({f"step_{i}": reached[:, i] for i in range(reached.shape[1])}, index=dates.index)
