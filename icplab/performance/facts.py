"""Reads the tables of a measurement, makes typed facts with a window, a unit of resampling and a level per row."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

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
    """All tables of one measurement, each row with `unit` (family number) and, under a cut, `level`."""

    opportunities: pd.DataFrame
    subscriptions: pd.DataFrame
    spend: pd.DataFrame
    activities: pd.DataFrame
    leads: pd.DataFrame
    targets: pd.DataFrame
    settings: Settings
    as_of: pd.Timestamp
    start: pd.Timestamp | None
    """Facts count from the day after it; None: all history."""
    weights: npt.NDArray[np.float32]
    """Replicates x units."""
    quarters: tuple[str, ...]
    """Quarters from the first that ends inside the window; `quarter` of an opportunity counts them, -1 for none."""
    by_account: bool
    """False: the cut describes opportunities, so figures of accounts are not measured."""
    unplaced: str = ""
    """Why the levels together misrepresent open opportunities, where they do."""
    unmeasured: dict[str, str] = field(default_factory=dict)
    """Why a table cannot be used: table name, reason."""

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
    levels: pd.Series | None,
    *,
    settings: Settings,
    as_of: pd.Timestamp,
    seed: int,
    replicates: int = REPLICATES,
) -> Facts:
    """Facts of one measurement.

    Parameters
    ----------
    tables : dict
        `opportunities` (features), `subscriptions, spend, activities, leads, targets, rates` (canonical or None).
    accounts : DataFrame
        `account_id, family_id`.
    levels : Series or None
        Level of each account (index account_id) or of each opportunity (index opportunity_id).
    settings, as_of, seed, replicates
        As in `measure_kpis`.
    """
    frames = {n: _or_empty(n, t) for n, t in tables.items()}
    families = accounts.set_index("account_id")["family_id"]
    frames["opportunities"] = _opportunity_facts(frames["opportunities"], settings, as_of)
    unmeasured: dict[str, str] = {}
    for name, money, dated in (("subscriptions", "mrr", "started_at"), ("spend", "amount", "month")):
        frames[name], reason = _in_home_currency(frames[name], money, dated, frames["rates"], settings)
        if reason:
            unmeasured[name] = reason
    by_account = levels is None or not levels.index.isin(frames["opportunities"]["opportunity_id"]).any()
    for name in ("opportunities", "subscriptions", "activities", "leads"):
        frames[name] = _with_family_and_level(name, frames[name], families, levels, by_account)
    frames, n_units = _number_units(frames)
    days = settings.plan.window_days
    start = as_of - pd.Timedelta(days=days) if days and settings.dated else None
    frames["opportunities"], quarters = _count_quarters(frames["opportunities"], start, settings)
    return Facts(
        frames["opportunities"],
        frames["subscriptions"],
        frames["spend"],
        frames["activities"],
        frames["leads"],
        frames["targets"],
        settings,
        as_of,
        start,
        draw_weights(n_units, replicates, seed),
        quarters,
        by_account,
        _unplaced(frames["opportunities"]),
        unmeasured,
    )


def no_decision(opportunities: pd.DataFrame) -> pd.Series:
    """Whether an opportunity was lost without a decision for anybody, by its loss reason."""
    reason = opportunities["loss_reason"].astype("str").str.lower()
    return (opportunities["status"] == "lost") & reason.str.contains(NO_DECISION).fillna(False).astype(bool)


def slice_level(facts: Facts, cut: str, level: str | None) -> Slice:
    """Facts of one level of the cut; None takes every row."""
    names = ("opportunities", "subscriptions", "activities", "leads")
    tables = {n: getattr(facts, n) for n in names}
    if level is not None:
        tables = {n: t[(t["level"] == level).fillna(False).to_numpy(dtype=bool)] for n, t in tables.items()}
    units = np.unique(np.concatenate([t["unit"].to_numpy() for t in tables.values()]))
    place = np.full(facts.weights.shape[1], -1)
    place[units] = np.arange(len(units))
    tables = {n: t.assign(unit=place[t["unit"].to_numpy()]) for n, t in tables.items()}
    return Slice(cut, "all" if level is None else level, facts, tables, facts.weights[:, units])


def _or_empty(name: str, frame: pd.DataFrame | None) -> pd.DataFrame:
    return CANONICAL[name].empty() if frame is None or not len(frame.columns) else frame


def _opportunity_facts(frame: pd.DataFrame, settings: Settings, as_of: pd.Timestamp) -> pd.DataFrame:
    frame = frame.sort_values("opportunity_id", ignore_index=True)
    won = frame["status"] == "won"
    dates = frame["closed_at"].where(frame["status"] != "open")
    ended = dates.fillna(as_of)
    days = (ended - frame["created_at"]).dt.days.astype("float64")
    first = frame[won].sort_values(["closed_at", "opportunity_id"], kind="stable").drop_duplicates("account_id")
    return frame.assign(
        closed_at=dates,
        open=frame["status"] == "open",
        won=won,
        lost=frame["status"] == "lost",
        new=frame["type"] == "new",
        no_decision=no_decision(frame),
        days=days.where(days >= 0),
        cause=frame["status"].map({"won": 1, "lost": 2, "open": 0}).astype("int64"),
        new_logo=frame["opportunity_id"].isin(first.loc[first["account_id"].notna(), "opportunity_id"]),
    )


def _count_quarters(
    frame: pd.DataFrame, start: pd.Timestamp | None, settings: Settings
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Number the quarters of closing; and only the columns that are measured, which makes every slice cheap."""
    names = quarter_of(frame["closed_at"], settings.calendar.fiscal_year_start)
    inside = names[frame["closed_at"] > start] if start is not None else names
    first = min(inside.dropna().unique(), default="")
    quarters = tuple(sorted(n for n in names.dropna().unique() if n >= first))
    frame = frame.assign(quarter=pd.Index(quarters, dtype="str").get_indexer(names))
    return frame[[*_MEASURED, "unit", "level"]], quarters


_MEASURED = (
    *("created_at", "closed_at", "open", "won", "lost", "new", "no_decision", "new_logo", "cause", "days", "quarter"),
    *("acv", "margin_rate"),
)


def _unplaced(frame: pd.DataFrame) -> str:
    """Open opportunities that no level takes, where closed ones are taken (an account filled in at closing)."""
    lacking = frame["level"].isna()
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


def _with_family_and_level(
    name: str, frame: pd.DataFrame, families: pd.Series, levels: pd.Series | None, by_account: bool
) -> pd.DataFrame:
    """Family of each row (an own one where there is no account) and its level under the cut."""
    own = {"opportunities": "opportunity_id", "leads": "lead_id"}.get(name)
    family = frame["family_id"] if name == "opportunities" else frame["account_id"].map(families)
    if own:
        family = family.fillna("~" + frame[own])
    frame = frame.assign(family_id=family.astype("str"))
    if name != "leads":
        frame = frame[frame["family_id"].notna()]
    if levels is None:
        return frame.assign(level=pd.Series("all", index=frame.index, dtype="str"))
    key = "account_id" if by_account else "opportunity_id"
    if not by_account and name != "opportunities":
        return frame.iloc[:0].assign(level=pd.Series([], dtype="str"))
    return frame.assign(level=frame[key].map(levels).astype("str"))


def _number_units(frames: dict[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], int]:
    """Families numbered in the order of their ids, so that row order cannot matter."""
    names = ("opportunities", "subscriptions", "activities", "leads")
    ids = pd.Index(np.unique(np.concatenate([frames[n]["family_id"].to_numpy(dtype=object) for n in names])))
    numbered = {n: frames[n].assign(unit=ids.get_indexer(frames[n]["family_id"])) for n in names}
    return {**frames, **numbered}, len(ids)
