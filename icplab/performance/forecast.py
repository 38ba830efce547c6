"""Reads opportunities and the tier of each account, makes a forecast of wins by tier mix, and its error against what came."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core import formats
from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.core.schema import ALL, ARTEFACTS
from icplab.core.stats.survival import Curve, aalen_johansen, count_events

STEP = "70_governance"
DAYS = 91  # ahead
LEVEL = 0.90  # of the band of a forecast: it is a promise of one number, not a confidence interval
YEAR = 365  # days over which the pace of new opportunities is taken
LOOKS = 6  # quarters looked back
NO_TIER = "insufficient"
MIXED, BLIND = "by_tier", "without_tiers"
NOW, BEFORE, REBUILT = "now", "earlier_run", "reconstructed"
Array = npt.NDArray[np.float64]


def forecast_wins(
    opportunities: pd.DataFrame, tier: pd.Series, settings: Settings, as_of: pd.Timestamp, basis: str = NOW
) -> pd.DataFrame:
    """Wins expected in the next 91 days and their annual value, from what is open and what will be opened, by tier.

    Parameters
    ----------
    opportunities : DataFrame
        One row per opportunity as known on `as_of`.
    tier : Series
        Tier of each account (index account_id); others count as `insufficient`.
    basis : str
        How the row came about: `now`, or `reconstructed` with the tiers of today.

    Returns
    -------
    DataFrame
        Rows of the artefact `forecast`: one per tier, their sum (`all`, method `by_tier`), and one that knows no tiers
        (`all`, method `without tiers`). `low, high` hold 90 % of such numbers. Empty without dates.

    Notes
    -----
    An opportunity open for a days is won in the next 91 with probability (F(a + 91) - F(a)) / S(a), F and S the
    Aalen-Johansen incidence of winning and the share still undecided, of its tier where that has `[plan] minimum_n`
    closed ones, else of all. New ones come at the pace of the last year. Value: the mean won deal of the tier, where it has
    `[plan] minimum_n_money`. The band adds the luck of each opportunity, of how many come, of their size, and how well
    curve, pace and mean are known; negative binomial for wins, log-normal for value.
    """
    frame = _dated(opportunities, tier, as_of)
    if not settings.dated or not len(frame):
        return ARTEFACTS["forecast"].empty()
    seen = int(np.clip((as_of - frame["created_at"].min()).days, 1, YEAR))
    whole = _learn(frame, seen, as_of)
    parts = [part for _, part in frame.groupby("tier", sort=True)]
    by_tier = [_expected(part, _borrow(part, _learn(part, seen, as_of), whole, settings)) for part in parts]
    names = sorted(frame["tier"].unique())
    total = {c: float(sum(r[c] for r in by_tier)) for c in by_tier[0]}
    rows = [
        *(_row(name, MIXED, found) for name, found in zip(names, by_tier, strict=True)),
        _row(ALL, MIXED, total),
        _row(ALL, BLIND, _expected(frame, whole)),
    ]
    return _as_artefact(pd.DataFrame(rows).assign(made_at=as_of, until=as_of + pd.Timedelta(days=DAYS), basis=basis))


def track_forecasts(
    opportunities: pd.DataFrame,
    tier: pd.Series,
    settings: Settings,
    as_of: pd.Timestamp,
    earlier: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Forecasts of the past beside what came: those that earlier runs wrote down, else made again for earlier dates.

    Parameters
    ----------
    opportunities, tier, settings, as_of
        As in `forecast_wins`.
    earlier : DataFrame, optional
        Artefact `forecast` of the run before; what it tracked itself is kept.

    Returns
    -------
    DataFrame
        Rows of the artefact `forecast` whose 91 days are over, with `came` and `came_value`, oldest first. For every
        date that no earlier run forecast, up to six quarters back, one is reconstructed from what was open then. Its
        tiers are those of today, which were set knowing these outcomes, so it flatters the tiers.
    """
    written = ARTEFACTS["forecast"].empty() if earlier is None else earlier[earlier["basis"] != REBUILT]
    written = written.assign(basis=BEFORE)
    dates = [as_of - pd.Timedelta(days=DAYS * k) for k in range(1, LOOKS + 1)]
    first = opportunities["created_at"].min()
    dates = [d for d in dates if pd.notna(first) and (d - first).days >= YEAR and not _near(d, written["made_at"])]
    parts = [forecast_wins(known_on(opportunities, d), tier, settings, d, REBUILT) for d in dates]
    table = pd.concat([written, *parts], ignore_index=True)
    table = table[table["until"] <= as_of].sort_values(["made_at", "method", "tier"], kind="stable", ignore_index=True)
    return _as_artefact(_came(table, _dated(opportunities, tier, as_of)))


def measure_errors(tracked: pd.DataFrame) -> pd.DataFrame:
    """How far forecasts of all wins were off: `method, basis, forecasts, wins_off, value_off` (mean absolute error as a share
    of what came), `bias` (mean error, as a share), `inside` (share inside the 90 % band), `inside_low, inside_high`."""
    from icplab.core.stats.intervals import wilson

    rows = tracked[(tracked["tier"] == ALL) & tracked["came"].notna()]
    found = []
    for (method, basis), part in rows.groupby(["method", "basis"], sort=True):
        inside = part["came"].between(part["low"], part["high"])
        low, high = wilson(float(inside.sum()), float(len(part)))
        came, worth = max(float(part["came"].sum()), 1.0), max(float(part["came_value"].sum()), 1.0)
        off = part["wins"] - part["came"]
        found.append(
            {
                "method": method,
                "basis": basis,
                "forecasts": float(len(part)),
                "wins_off": float(off.abs().sum()) / came,
                "bias": float(off.sum()) / came,
                "value_off": float((part["value"] - part["came_value"]).abs().sum()) / worth,
                "inside": float(inside.mean()),
                "inside_low": float(low),
                "inside_high": float(high),
            }
        )
    columns = ["method", "basis", "forecasts", "wins_off", "bias", "value_off", "inside", "inside_low", "inside_high"]
    return pd.DataFrame(found, columns=columns)


def find_forecast(forecast: pd.DataFrame, errors: pd.DataFrame, settings: Settings) -> Iterator[Finding]:
    """What the next quarter should bring, and how far such forecasts were off."""
    rows = forecast[(forecast["tier"] == ALL) & (forecast["method"] == MIXED)]
    if not len(rows):
        return
    row, money = rows.iloc[0], settings.workspace.currency
    past = errors[errors["method"] == MIXED].sort_values("basis").head(1)
    said = "No forecast of the past can be checked yet."
    numbers = {c: row[c] for c in ("wins", "low", "high", "value", "value_low", "value_high")}
    if len(past):
        was = past.iloc[0]
        said = (
            f"{was['forecasts']:.0f} {str(was['basis']).replace('_', ' ')} forecasts were off by {formats.percent(was['wins_off'])} of wins on "
            f"average, and {formats.percent(was['inside'])} of them lay inside their band."
        )
        numbers |= {c: was[c] for c in ("forecasts", "wins_off", "inside")}
    yield Finding(
        "forecast",
        STEP,
        "info",
        "next 91 days",
        f"By the tier mix of the pipeline, {row['wins']:.0f} wins ({row['low']:.0f} to {row['high']:.0f}) worth "
        f"{formats.money(row['value'], money)} a year ({formats.money(row['value_low'], money)} to "
        f"{formats.money(row['value_high'], money)}) are expected by {formats.date(row['until'])}. {said}",
        numbers,
        owner="Analytics / Finance",
    )


def known_on(opportunities: pd.DataFrame, day: pd.Timestamp) -> pd.DataFrame:
    """Opportunities as they stood on an earlier day: later ones are gone, later outcomes not known."""
    frame = opportunities[opportunities["created_at"] <= day]
    later = frame["closed_at"] > day
    return frame.assign(status=frame["status"].mask(later, "open"), closed_at=frame["closed_at"].mask(later))


@dataclass(frozen=True)
class _Past:
    """What the past of some opportunities says about the future: curve and wins behind it, pace, deal size."""

    curve: Curve
    wins: int
    pace: float
    created: int
    mean: float
    spread: float
    deals: int

    def won_by(self, ages: Array) -> Array:
        """Probability of having won by each age."""
        return _at(self.curve.days, self.curve.incidence, ages, 0.0)

    def undecided(self, ages: Array) -> Array:
        return _at(self.curve.days, self.curve.survival, ages, 1.0)


def _learn(frame: pd.DataFrame, seen: int, as_of: pd.Timestamp) -> _Past:
    """The past of these opportunities; `seen` is the number of days over which the pace is taken."""
    causes = frame["status"].map({"won": 1, "lost": 2, "open": 0}).astype("int64")
    won = frame["status"] == "won"
    deals = frame.loc[won & (frame["acv"] > 0), "acv"]
    created = int((frame["created_at"] > as_of - pd.Timedelta(days=seen)).sum())
    mean, spread = (float(deals.mean()), float(deals.var(ddof=0))) if len(deals) else (0.0, 0.0)
    curve = aalen_johansen(count_events(frame["days"], causes))
    return _Past(curve, int(won.sum()), created / seen, created, mean, spread, max(len(deals), 1))


def _borrow(part: pd.DataFrame, own: _Past, whole: _Past, settings: Settings) -> _Past:
    """A tier's own past, with the curve and the deal size of all where it has too few closed or won."""
    if int((part["status"] != "open").sum()) < settings.plan.minimum_n:
        own = replace(own, curve=whole.curve, wins=whole.wins)
    if own.deals < settings.plan.minimum_n_money:
        own = replace(own, mean=whole.mean, spread=whole.spread, deals=whole.deals)
    return own


def _expected(frame: pd.DataFrame, past: _Past) -> dict[str, float]:
    """Wins and value expected of some opportunities, with their variances."""
    ages = frame.loc[frame["status"] == "open", "days"].to_numpy(dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = (past.won_by(ages + DAYS) - past.won_by(ages)) / past.undecided(ages)
    p = np.clip(np.nan_to_num(p, posinf=0.0), 0.0, 1.0)
    new = past.pace * float(past.won_by(np.arange(DAYS, dtype=float)).sum())
    wins = float(p.sum()) + new
    variance = float((p * (1 - p)).sum()) + new + wins**2 / max(past.wins, 1) + new**2 / max(past.created, 1)
    worth = wins * past.mean
    spread = variance * past.mean**2 + wins * past.spread + wins**2 * past.spread / past.deals
    return {"open": float(len(ages)), "wins": wins, "variance": variance, "value": worth, "spread": spread}


def _row(tier: str, method: str, found: dict[str, float]) -> dict[str, Any]:
    low, high = _count_band(found["wins"], found["variance"])
    value_low, value_high = _band(found["value"], found["spread"])
    kept = {c: found[c] for c in ("open", "wins", "value")}
    ends = {"low": low, "high": high, "value_low": value_low, "value_high": value_high}
    return {"tier": tier, "method": method, **kept, **ends}


def _count_band(mean: float, variance: float) -> tuple[float, float]:
    """Ends of the negative binomial with this mean and variance (Poisson where that is smaller): whole numbers."""
    from scipy.special import betainc, pdtr

    if mean <= 0:
        return 0.0, 0.0
    counts = np.arange(int(mean + 12 * np.sqrt(max(variance, mean)) + 12))
    more = variance - mean
    below = betainc(mean**2 / more, counts + 1.0, mean / variance) if more > 1e-6 * mean else pdtr(counts, mean)
    low, high = np.searchsorted(below, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _band(mean: float, variance: float) -> tuple[float, float]:
    """Ends of the log-normal band with this mean and variance."""
    from scipy.special import ndtri

    if mean <= 0:
        return 0.0, 0.0
    spread = np.sqrt(np.log1p(variance / mean**2))
    middle, half = np.log(mean) - spread**2 / 2, float(ndtri((1 + LEVEL) / 2)) * spread
    return float(np.exp(middle - half)), float(np.exp(middle + half))


def _at(days: Array, values: Array, ages: Array, start: float) -> Array:
    place = np.searchsorted(days, ages, side="right")
    return np.concatenate([[start], values])[place]


def _dated(opportunities: pd.DataFrame, tier: pd.Series, as_of: pd.Timestamp) -> pd.DataFrame:
    """Opportunities with a creation date, their age or cycle in days, and the tier of their account."""
    frame = opportunities[opportunities["created_at"].notna()].sort_values("opportunity_id", ignore_index=True)
    end = frame["closed_at"].where(frame["status"] != "open").fillna(as_of)
    days = (end - frame["created_at"]).dt.days.astype("float64")
    frame = frame.assign(days=days, tier=frame["account_id"].map(tier).astype("str").fillna(NO_TIER))
    return frame[frame["days"] >= 0]


def _near(day: pd.Timestamp, dates: pd.Series) -> bool:
    """Whether a forecast was written down within half a quarter of that day."""
    return bool((dates.sub(day).abs() <= pd.Timedelta(days=DAYS // 2)).any())


def _came(table: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Add the wins of each forecast's 91 days, and their value."""
    won = frame[frame["status"] == "won"]
    came = []
    for row in table[["tier", "made_at", "until"]].to_dict("records"):
        inside = (won["closed_at"] > row["made_at"]) & (won["closed_at"] <= row["until"])
        kept = won[inside & ((won["tier"] == row["tier"]) | (row["tier"] == ALL))]
        came.append((float(len(kept)), float(kept["acv"].sum())))
    return table.assign(came=[c for c, _ in came], came_value=[v for _, v in came])


def _as_artefact(table: pd.DataFrame) -> pd.DataFrame:
    declared = ARTEFACTS["forecast"].empty()
    return table.reindex(columns=list(declared)).astype(declared.dtypes.to_dict())
