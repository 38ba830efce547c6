"""Reads the tables of a measurement, makes typed facts with a window, a unit of resampling and a level per row."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core.config import Settings
from icplab.core.stats.resample import REPLICATES, draw_weights
from icplab.performance.columns import Columns, columns_of
from icplab.performance.cuts import key_of, mask_owners
from icplab.performance.prepare import (
    FUNNEL,
    accounts_reached,
    effort_by_month,
    in_home_currency,
    lead_cycles,
    lead_facts,
    no_meetings,
    opportunity_facts,
    or_empty,
    stage_dates,
)

# Difference in the share without a level, open against closed, from which rates that need both are misleading.
UNPLACED = 0.10
DAYS_PER_MONTH = 30.4375


@dataclass(frozen=True)
class Facts:
    """All tables of one measurement, in numbers only: each row has `unit` (its family) and `account`."""

    opportunities: pd.DataFrame
    subscriptions: pd.DataFrame
    activities: pd.DataFrame
    """One row per account with any activity in the window: whether it `met`."""
    leads: pd.DataFrame
    cycles: pd.DataFrame
    """One row per account and cycle of the funnel: `step_0, ...` when each step was reached, `qualified_days`."""
    effort: pd.DataFrame
    """What sellers did per account and `month`."""
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
    stages: tuple[str, ...] = ()
    """Names of the columns `step_0, ...` of opportunities."""
    funnel: tuple[str, ...] = ()
    """Names of the same columns of cycles."""
    effort_in: str = ""
    """minutes or events."""
    levels: tuple[str, ...] = ()
    level: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict, compare=False)
    """Level of each row of each table (-1: none)."""
    by_account: bool = True
    """False: the cut describes opportunities, so figures of accounts are not measured."""
    unplaced: str = ""
    """Why the levels together misrepresent open opportunities, where they do."""
    memory: dict[str, Any] = field(default_factory=dict, compare=False)
    """What every level of a cut needs and is worked out once."""
    common: dict[str, Any] = field(default_factory=dict, compare=False)
    """What all cuts need and is worked out once."""

    @property
    def window(self) -> str:
        """The window in words, for notes."""
        if "window" not in self.common:
            self.common["window"] = say_window(self.settings, self.as_of)
        return self.common["window"]

    def inside(self, dates: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each date lies in the window; without dates at all, every row does."""
        return is_inside(dates, self.start, self.as_of, self.settings)

    def whole(self, name: str) -> Columns:
        """Every row of a table as columns, made once for all cuts."""
        tables = self.common.setdefault("columns", {})
        if name not in tables:
            tables[name] = columns_of(getattr(self, name))
        return tables[name]


@dataclass(frozen=True)
class Slice:
    """The facts of one level: tables restricted to it, and the weights of its units only."""

    cut: str
    level: str
    facts: Facts
    tables: dict[str, Columns]
    weights: npt.NDArray[np.float32]
    memory: dict[str, Any] = field(default_factory=dict, compare=False)
    """Figures of this level that others are made of."""

    @property
    def units(self) -> int:
        return self.weights.shape[1]

    def total(self, frame: Columns, values: npt.ArrayLike | None = None) -> npt.NDArray[np.float64]:
        """Sum of `values` (default: rows) per unit."""
        given = None if values is None else np.asarray(values, dtype=float)
        return np.bincount(frame["unit"], weights=given, minlength=self.units).astype(float)

    def totals(self, frame: Columns, values: npt.NDArray) -> npt.NDArray[np.float64]:
        """Sum of each column of `values` per unit."""
        return total_columns(frame["unit"], values, self.units)

    def drawn(self, totals: npt.NDArray) -> npt.NDArray[np.float64]:
        """The resampled sum of totals per unit, one value a replicate."""
        return (self.weights @ totals.astype(np.float32)).astype(float)


def say_window(settings: Settings, as_of: pd.Timestamp) -> str:
    """The window of key figures in words, such as `365 days to 2026-06-30`."""
    if not settings.dated:
        return "all history"
    days = settings.plan.window_days
    return f"{days} days to {as_of:%Y-%m-%d}" if days else f"all history to {as_of:%Y-%m-%d}"


def total_columns(units: npt.NDArray, values: npt.NDArray, n_units: int) -> npt.NDArray[np.float64]:
    """Sum of each column of `values` (rows x columns) per unit, added up in the order of the rows."""
    sums = [np.bincount(units, weights=column, minlength=n_units) for column in np.asarray(values, dtype=float).T]
    return np.column_stack(sums) if sums else np.zeros((n_units, 0))


def is_inside(
    dates: npt.ArrayLike, start: pd.Timestamp | None, as_of: pd.Timestamp, settings: Settings
) -> npt.NDArray[np.bool_]:
    """Whether each date lies in the window; without dates at all, every row does."""
    days = np.asarray(dates)
    if not settings.dated:
        return np.ones(len(days), dtype=bool)
    # A missing date is neither before nor after any other.
    inside = days <= as_of.to_datetime64()
    return inside if start is None else inside & (days > start.to_datetime64())


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
        `opportunities` (features); canonical or None: `subscriptions, spend, activities, leads, stage_history, targets,
        rates`; and `effort` (`features.summarise_effort`), by default made from the activities.
    accounts : DataFrame
        `account_id, family_id`.
    settings, as_of, seed, replicates
        As in `measure_kpis`.
    """
    worked = tables.get("effort")
    frames = {n: or_empty(n, t) for n, t in tables.items() if n != "effort"}
    unmeasured = {}
    for name, money, dated in (("subscriptions", "mrr", "started_at"), ("spend", "amount", "month")):
        frames[name], reason = in_home_currency(frames[name], money, dated, frames["rates"], settings)
        if reason:
            unmeasured[name] = reason
    if reason := no_meetings(frames["activities"]):
        unmeasured["activities"] = reason
    days = settings.plan.window_days
    start = as_of - pd.Timedelta(days=days) if days and settings.dated else None
    families = accounts.set_index("account_id")["family_id"]
    ids = pd.Index(frames["opportunities"]["opportunity_id"]).sort_values()
    frames["opportunities"], quarters = opportunity_facts(frames["opportunities"], settings, as_of, start)
    frames["effort"], effort_in = effort_by_month(worked, frames["activities"], as_of)
    frames["activities"] = accounts_reached(frames["activities"], as_of, start)
    frames["cycles"], funnel = lead_cycles(frames["leads"], frames["opportunities"], as_of)
    frames["leads"] = lead_facts(frames["leads"])
    steps, stages = stage_dates(frames["stage_history"], frames["opportunities"], as_of)
    frames["opportunities"] = (
        frames["opportunities"]
        .join(steps)
        .assign(
            **{
                c: is_inside(frames["opportunities"][f"{c[:-3]}_at"], start, as_of, settings)
                for c in ("created_in", "closed_in")
            }
        )
    )
    n_units = _number_units(frames, families)
    columns = {n: (*c, "unit", "account") for n, c in _MEASURED.items()}
    columns["opportunities"] += tuple(f"step_{i}" for i in range(len(stages)))
    slim: dict[str, Any] = {n: frames[n][list(c)].reset_index(drop=True) for n, c in columns.items()}
    return Facts(
        **slim,
        spend=frames["spend"],
        targets=frames["targets"].assign(
            owner=mask_owners(frames["targets"]["owner"], frames["opportunities"], settings)
        ),
        settings=settings,
        as_of=as_of,
        start=start,
        weights=draw_weights(n_units, replicates, seed),
        quarters=quarters,
        accounts=families.index,
        opportunity_ids=ids,
        unmeasured=unmeasured,
        stages=stages,
        funnel=funnel,
        effort_in=effort_in,
    )


def set_levels(facts: Facts, levels: pd.Series) -> Facts:
    """The same facts under a cut: `levels` holds the level of each account, or of each opportunity, by its id."""
    by_account = key_of(levels) == "account_id"
    names = pd.Index(sorted(levels.dropna().unique()), dtype="str")
    ids = facts.accounts if by_account else facts.opportunity_ids
    codes = np.append(names.get_indexer(levels.reindex(ids)), -1)  # the last stands for rows without an account
    if by_account:
        level = {n: codes[facts.whole(n)["account"]] for n in _MEASURED}
    else:
        level = {n: np.full(len(facts.whole(n)["account"]), -1) for n in _MEASURED}
        level["opportunities"] = codes[:-1]
    unplaced = _unplaced(level["opportunities"] < 0, facts.whole("opportunities")["open"])
    return replace(facts, levels=tuple(names), level=level, by_account=by_account, unplaced=unplaced, memory={})


def slice_level(facts: Facts, cut: str, level: int | None) -> Slice:
    """Facts of one level of the cut, by its number; None takes every row."""
    tables = {n: facts.whole(n) for n in _MEASURED}
    if level is not None:
        tables = {n: t[facts.level[n] == level] for n, t in tables.items()}
    units = np.unique(np.concatenate([t["unit"] for t in tables.values()]))
    place = np.full(facts.weights.shape[1], -1)
    place[units] = np.arange(len(units))
    tables = {n: Columns({**t.arrays, "unit": place[t.arrays["unit"]]}, t.rows) for n, t in tables.items()}
    return Slice(cut, "all" if level is None else facts.levels[level], facts, tables, facts.weights[:, units])


# What is measured of each table, beside unit, account and level: numbers and dates only, so that slicing is cheap.
_MEASURED = {
    "opportunities": (
        *("created_at", "closed_at", "open", "won", "lost", "new", "no_decision", "new_logo", "cause", "days"),
        *("quarter", "acv", "margin_rate", "created_in", "closed_in"),
    ),
    "subscriptions": ("started_at", "ended_at", "mrr", "gross_margin"),
    "activities": ("met",),
    "leads": ("qualified_at", "accepted", "rejected"),
    "cycles": ("qualified_days", *(f"step_{i}" for i in range(len(FUNNEL)))),
    "effort": ("month", "effort"),
}


def _unplaced(lacking: npt.NDArray[np.bool_], still_open: npt.NDArray[np.bool_]) -> str:
    """Open opportunities that no level takes, where closed ones are taken (an account filled in at closing)."""
    if not still_open.any() or still_open.all():
        return ""
    gap = lacking[still_open].mean() - lacking[~still_open].mean()
    n = int((lacking & still_open).sum())
    return f"{n:,} open opportunities without a level are missing, so the rate is too high" if gap > UNPLACED else ""


def _number_units(frames: dict[str, pd.DataFrame], families: pd.Series) -> int:
    """Add `unit` and `account`: families numbered in the order of their ids, so that row order is nothing.

    Opportunities and leads without an account are families of their own; other rows without one are left out.
    """
    for name in _MEASURED:
        frame = frames[name]
        family = frame["family_id"] if name == "opportunities" else frame["account_id"].map(families)
        if name in _OWN_FAMILY:
            family = family.fillna("~" + frame[_OWN_FAMILY[name]])
        account = families.index.get_indexer(pd.Index(frame["account_id"]))
        frame = frame.assign(family_id=family.astype("str"), account=account)
        frames[name] = frame[frame["family_id"].notna()]
    known = [frames[n]["family_id"].to_numpy(dtype=object) for n in _MEASURED]
    ids = pd.Index(np.unique(np.concatenate(known)), dtype="str")
    for name in _MEASURED:
        frames[name] = frames[name].assign(unit=ids.get_indexer(pd.Index(frames[name]["family_id"])))
    return len(ids)


_OWN_FAMILY = {"opportunities": "opportunity_id", "leads": "lead_id", "cycles": "lead_id"}
