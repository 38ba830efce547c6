"""Reads the tables of a measurement, makes typed facts with a window, a unit of resampling and a level per row."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core.config import Settings
from icplab.core.schema import CANONICAL
from icplab.core.stats.resample import REPLICATES, draw_weights
from icplab.performance.cuts import quarter_of

# A loss without a rival: left out of the narrow closed basis, kept in the broad one.
NO_DECISION = re.compile(r"no[\s_-]*decision|derail|stalled|went[\s_-]*dark|status[\s_-]*quo|project[\s_-]*cancel")
# Difference in the share without a level, open against closed, from which rates that need both are misleading.
UNPLACED = 0.10
MEETING = re.compile(r"meeting|demo")
DAYS_PER_MONTH = 30.4375


@dataclass(frozen=True)
class Facts:
    """All tables of one measurement, in numbers only: each row has `unit` (its family), `account` and `level` (-1: none)."""

    opportunities: pd.DataFrame
    subscriptions: pd.DataFrame
    activities: pd.DataFrame
    """One row per account with any activity in the window: whether it `met`."""
    leads: pd.DataFrame
    spend: pd.DataFrame
    targets: pd.DataFrame
    settings: Settings
    as_of: pd.Timestamp
    start: pd.Timestamp | None
    """Facts count from the day after it; None: all history."""
    weights: npt.NDArray[np.float32]
    """Replicates x units."""
    quarters: tuple[str, ...]
    """Quarters from the first that ends inside the window; `quarter` of an opportunity counts them, -1 for none."""
    accounts: pd.Index
    opportunity_ids: pd.Index
    unmeasured: dict[str, str]
    """Why a table cannot be used: table name, reason."""
    levels: tuple[str, ...] = ()
    by_account: bool = True
    """False: the cut describes opportunities, so figures of accounts are not measured."""
    unplaced: str = ""
    """Why the levels together misrepresent open opportunities, where they do."""
    memory: dict[str, Any] = field(default_factory=dict, compare=False)
    """What every level of a cut needs and is worked out once."""

    @property
    def window(self) -> str:
        """The window in words, for notes."""
        if not self.settings.dated:
            return "all history"
        if self.start is None:
            return f"all history to {self.as_of:%Y-%m-%d}"
        return f"{(self.as_of - self.start).days} days to {self.as_of:%Y-%m-%d}"

    def inside(self, dates: pd.Series) -> pd.Series:
        """Whether each date lies in the window; without dates at all, every row does."""
        if not self.settings.dated:
            return pd.Series(True, index=dates.index)
        return dates.notna() & (dates <= self.as_of) & (True if self.start is None else dates > self.start)


@dataclass(frozen=True)
class Slice:
    """The facts of one level: tables restricted to it, and the weights of its units only."""

    cut: str
    level: str
    facts: Facts
    tables: dict[str, pd.DataFrame]
    weights: npt.NDArray[np.float32]

    @property
    def units(self) -> int:
        return self.weights.shape[1]

    def total(self, frame: pd.DataFrame, values: npt.ArrayLike | None = None) -> npt.NDArray[np.float64]:
        """Sum of `values` (default: rows) per unit."""
        given = None if values is None else np.asarray(values, dtype=float)
        return np.bincount(frame["unit"], weights=given, minlength=self.units).astype(float)

    def drawn(self, totals: npt.NDArray) -> npt.NDArray[np.float64]:
        """The resampled sum of totals per unit, one value a replicate."""
        return (self.weights @ totals.astype(np.float32)).astype(float)


def build_facts(
    tables: dict[str, pd.DataFrame | None],
    accounts: pd.DataFrame,
    *,
    settings: Settings,
    as_of: pd.Timestamp,
    seed: int,
    replicates: int = REPLICATES,
) -> Facts:
    """Facts of one measurement, before any cut.

    Parameters
    ----------
    tables : dict
        `opportunities` (features), `subscriptions, spend, activities, leads, targets, rates` (canonical or None).
    accounts : DataFrame
        `account_id, family_id`.
    settings, as_of, seed, replicates
        As in `measure_kpis`.
    """
    frames = {n: _or_empty(n, t) for n, t in tables.items()}
    unmeasured = {}
    for name, money, dated in (("subscriptions", "mrr", "started_at"), ("spend", "amount", "month")):
        frames[name], reason = _in_home_currency(frames[name], money, dated, frames["rates"], settings)
        if reason:
            unmeasured[name] = reason
    if reason := _no_meetings(frames["activities"]):
        unmeasured["activities"] = reason
    days = settings.plan.window_days
    start = as_of - pd.Timedelta(days=days) if days and settings.dated else None
    families = accounts.set_index("account_id")["family_id"]
    ids = pd.Index(frames["opportunities"]["opportunity_id"]).sort_values()
    frames["opportunities"], quarters = _opportunity_facts(frames["opportunities"], settings, as_of, start)
    frames["activities"] = _accounts_reached(frames["activities"], as_of, start)
    frames["leads"] = _lead_facts(frames["leads"])
    n_units = _number_units(frames, families)
    slim: dict[str, Any] = {n: frames[n][[*c, "unit", "account", "level"]] for n, c in _MEASURED.items()}
    return Facts(
        **slim,
        spend=frames["spend"],
        targets=frames["targets"],
        settings=settings,
        as_of=as_of,
        start=start,
        weights=draw_weights(n_units, replicates, seed),
        quarters=quarters,
        accounts=families.index,
        opportunity_ids=ids,
        unmeasured=unmeasured,
    )


def set_levels(facts: Facts, levels: pd.Series) -> Facts:
    """The same facts under a cut: `levels` holds the level of each account, or of each opportunity, by its id."""
    by_account = not levels.index.isin(facts.opportunity_ids).any()
    names = pd.Index(sorted(levels.dropna().unique()), dtype="str")
    ids = facts.accounts if by_account else facts.opportunity_ids
    codes = np.append(names.get_indexer(levels.reindex(ids)), -1)  # the last stands for rows without an account
    level = {n: codes[getattr(facts, n)["account"].to_numpy()] for n in _MEASURED}
    if not by_account:
        level = {n: np.full(len(v), -1) for n, v in level.items()}
        level["opportunities"] = codes[:-1]
    tables = {n: getattr(facts, n).assign(level=level[n]) for n in _MEASURED}
    return replace(
        facts,
        **tables,
        levels=tuple(names),
        by_account=by_account,
        unplaced=_unplaced(tables["opportunities"]),
        memory={},
    )


def no_decision(opportunities: pd.DataFrame) -> pd.Series:
    """Whether an opportunity was lost without a decision for anybody, by its loss reason."""
    reason = opportunities["loss_reason"].astype("str").str.lower()
    return (opportunities["status"] == "lost") & reason.str.contains(NO_DECISION).fillna(False).astype(bool)


def slice_level(facts: Facts, cut: str, level: int | None) -> Slice:
    """Facts of one level of the cut, by its number; None takes every row."""
    tables = {n: getattr(facts, n) for n in _MEASURED}
    if level is not None:
        tables = {n: t[t["level"].to_numpy() == level] for n, t in tables.items()}
    units = np.unique(np.concatenate([t["unit"].to_numpy() for t in tables.values()]))
    place = np.full(facts.weights.shape[1], -1)
    place[units] = np.arange(len(units))
    tables = {n: t.assign(unit=place[t["unit"].to_numpy()]) for n, t in tables.items()}
    return Slice(cut, "all" if level is None else facts.levels[level], facts, tables, facts.weights[:, units])


# What is measured of each table, beside unit, account and level: numbers and dates only, so that slicing is cheap.
_MEASURED = {
    "opportunities": (
        *("created_at", "closed_at", "open", "won", "lost", "new", "no_decision", "new_logo", "cause", "days"),
        *("quarter", "acv", "margin_rate"),
    ),
    "subscriptions": ("started_at", "ended_at", "mrr", "gross_margin"),
    "activities": ("met",),
    "leads": ("qualified_at", "accepted", "rejected"),
}


def _or_empty(name: str, frame: pd.DataFrame | None) -> pd.DataFrame:
    return CANONICAL[name].empty() if frame is None or not len(frame.columns) else frame


def _opportunity_facts(
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


def _no_meetings(activities: pd.DataFrame) -> str:
    if not len(activities):
        return "there is no activities table"
    named = activities["type"].str.lower().str.contains(MEETING).fillna(False)
    return "" if named.any() else "no type of activity is called meeting or demo"


def _accounts_reached(activities: pd.DataFrame, as_of: pd.Timestamp, start: pd.Timestamp | None) -> pd.DataFrame:
    """Accounts with any activity in the window, and whether one of them was a meeting."""
    dates = activities["occurred_at"]
    recent = activities[(dates <= as_of) & (True if start is None else dates > start)]
    met = recent["type"].str.lower().str.contains(MEETING).fillna(False).astype(bool)
    return met.groupby(recent["account_id"]).any().rename("met").reset_index()


def _lead_facts(leads: pd.DataFrame) -> pd.DataFrame:
    accepted = leads["accepted_at"].notna()
    return leads.assign(accepted=accepted, rejected=~accepted & leads["disqualified_at"].notna())


def _unplaced(frame: pd.DataFrame) -> str:
    """Open opportunities that no level takes, where closed ones are taken (an account filled in at closing)."""
    lacking = frame["level"] < 0
    still_open = frame["open"]
    if not still_open.any() or still_open.all():
        return ""
    gap = lacking[still_open].mean() - lacking[~still_open].mean()
    n = int((lacking & still_open).sum())
    return f"{n:,} open opportunities without a level are missing, so the rate is too high" if gap > UNPLACED else ""


def _in_home_currency(
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


def _number_units(frames: dict[str, pd.DataFrame], families: pd.Series) -> int:
    """Add `unit, account` and an empty `level`: families numbered in the order of their ids, so that row order is nothing.

    Opportunities and leads without an account are families of their own; other rows without one are left out.
    """
    for name in _MEASURED:
        frame = frames[name]
        family = frame["family_id"] if name == "opportunities" else frame["account_id"].map(families)
        if name in _OWN_FAMILY:
            family = family.fillna("~" + frame[_OWN_FAMILY[name]])
        account = families.index.get_indexer(pd.Index(frame["account_id"]))
        frame = frame.assign(family_id=family.astype("str"), account=account, level=-1)
        frames[name] = frame[frame["family_id"].notna()]
    known = [frames[n]["family_id"].to_numpy(dtype=object) for n in _MEASURED]
    ids = pd.Index(np.unique(np.concatenate(known)), dtype="str")
    for name in _MEASURED:
        frames[name] = frames[name].assign(unit=ids.get_indexer(pd.Index(frames[name]["family_id"])))
    return len(ids)


_OWN_FAMILY = {"opportunities": "opportunity_id", "leads": "lead_id"}
