"""Reads opportunities, accounts and subscriptions, makes the cells of a cube that win more and are worth more than the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core import formats
from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.core.stats.intervals import LEVEL
from icplab.core.stats.multiplicity import benjamini_hochberg
from icplab.core.stats.resample import draw_weights
from icplab.performance.cuts import BANDS, LEVELS, MIN_FILL, build_levels
from icplab.performance.facts import DAYS_PER_MONTH
from icplab.performance.prepare import no_decision

STEP = "20_performance"
SIZES = ("employees", "annual_revenue")
REPLICATES = 400
PRIOR_MONTHS = 24.0  # months of customer life at the overall rate that steady a cell's churn
SEPARATOR = " · "
Array = npt.NDArray[np.float64]


def choose_cube(catalogue: pd.DataFrame, closed: int, minimum_n: int) -> list[str]:
    """Columns of the cube region x size x deployment, as far as they are there and their cells can hold enough.

    Parameters
    ----------
    catalogue : DataFrame
        Candidate traits; deployment is the column given the role `deployment`, industry stands in where there is none.
    closed : int
        Closed opportunities, to be shared among the cells.
    minimum_n : int
        Closed opportunities that a cell should hold on average; the column with most levels is left out until it does.
    """
    usable = catalogue[(catalogue["table"] == "accounts") & ~catalogue["excluded"].astype(bool)]
    usable = usable[(usable["fill_rate"] >= MIN_FILL) & (usable["kind"] != "multi") & (usable["levels"] >= LEVELS[0])]
    names, roles = set(usable["trait"]), usable[usable["role"] == "deployment"]["trait"].sort_values()
    options = (("region", "country"), SIZES, (*roles[:1], "deployment", "industry"))
    cube = [c for c in dict.fromkeys(next((c for c in wanted if c in names), "") for wanted in options) if c]
    counts = usable["levels"].astype(int).mask(usable["kind"] == "number", BANDS)
    levels = dict(zip(usable["trait"], counts, strict=True))
    while len(cube) > 1 and closed < minimum_n * int(np.prod([levels[c] for c in cube])):
        cube.remove(max(cube, key=lambda c: (levels[c], cube.index(c))))
    return cube


def compare_cells(
    opportunities: pd.DataFrame,
    *,
    accounts: pd.DataFrame,
    cube: Sequence[str],
    subscriptions: pd.DataFrame | None = None,
    settings: Settings,
    as_of: pd.Timestamp,
    seed: int,
    replicates: int = REPLICATES,
) -> pd.DataFrame:
    """Every cell of a cube against all other accounts: win rate and lifetime value, both higher under false-discovery control.

    Parameters
    ----------
    opportunities, accounts, settings, as_of, seed
        As in `measure_kpis`.
    cube : sequence of str
        Columns of accounts; numbers are cut at their quartiles. An account lacking one of them is in no cell.
    subscriptions : DataFrame, optional
        Canonical table; without it the value is that of a won opportunity's first year, and `value_is` says so.
    replicates : int
        Resamples of account families.

    Returns
    -------
    DataFrame
        One row per cell with closed opportunities: `cell, n` (closed), `won, win_rate, win_low, win_high, win_rest, value,
        value_low, value_high, value_rest, value_is, win_p, value_p, p_value, q_value, status, above`. Cells below
        `[plan] minimum_n` closed opportunities are `insufficient` and not tested; `above`: q at most `[plan] fdr`.

    Notes
    -----
    One-sided tests from the spread over resampled families. A cell must win more *and* be worth more, so its p-value is
    the larger of the two (intersection-union; Berger 1982, Technometrics 24), and q-values follow Benjamini and Hochberg
    over all tested cells. Lifetime value: monthly margin of a customer times the discounted months that its cell's churn
    leaves, capped at `[economics] ltv_months`; churn is steadied by 24 months at the overall rate.
    """
    cell = _cells(accounts, cube)
    facts, value_is = _sums(opportunities, accounts, cell, subscriptions, settings, as_of)
    if not len(facts):
        return _nothing()
    codes, names = pd.factorize(facts["cell"], sort=True)
    unit, units = pd.factorize(facts["family"], sort=True)
    weights = np.vstack([np.ones((1, len(units)), np.float32), draw_weights(len(units), replicates, seed)])
    sums = {c: _drawn(weights, unit, codes, facts[c].to_numpy(dtype=float), len(names)) for c in _SUMMED}
    table = _contrast(sums, settings, value_is)
    table.insert(0, "cell", names.astype("str"))
    tested = (table["n"] >= settings.plan.minimum_n) & table["value"].notna()
    table["status"] = np.where(tested, "ok", "insufficient")
    p = table[["win_p", "value_p"]].max(axis=1, skipna=False).where(tested)
    table = table.assign(p_value=p, q_value=benjamini_hochberg(p), value_is=value_is)
    table["above"] = (table["q_value"] <= settings.plan.fdr).fillna(False).astype(bool)
    table = table[table["n"] > 0].sort_values(["q_value", "p_value", "cell"], ignore_index=True)
    return table[list(_COLUMNS)].astype(_COLUMNS)


def find_cells(cells: pd.DataFrame, cube: Sequence[str], settings: Settings) -> Iterator[Finding]:
    """Cells that win more and are worth more than the rest, or that none does."""
    tested = int((cells["status"] == "ok").sum())
    above, currency = cells[cells["above"]], settings.workspace.currency
    of = " × ".join(formats.plain(c) for c in cube)
    if len(cells) and not tested:
        sentence = (
            f"None of {len(cells)} cells of {of} has {settings.plan.minimum_n} closed opportunities and a value to test, so "
            "which of them does better is not known."
        )
        yield Finding("not-measured", STEP, "info", of, sentence, {"cells": len(cells)})
    if tested and not len(above):
        sentence = (
            f"None of {tested} cells of {of} with enough evidence has both a win rate and a lifetime value above the rest "
            f"at {formats.percent(settings.plan.fdr)} false discoveries."
        )
        yield Finding("no-difference", STEP, "info", of, sentence, {"tested": tested, "fdr": settings.plan.fdr})
    for row in above.to_dict("records"):
        sentence = (
            f"“{formats.plain(row['cell'])}” wins {formats.percent(row['win_rate'])} of {row['n']:,.0f} closed "
            f"opportunities (the rest {formats.percent(row['win_rest'])}) and has a {row['value_is']} of "
            f"{formats.money(row['value'], currency)} (the rest {formats.money(row['value_rest'], currency)}): both above "
            f"the rest at {formats.percent(settings.plan.fdr)} false discoveries among {tested} cells of {of}."
        )
        numbers = {k: row[k] for k in ("n", "win_rate", "win_rest", "value", "value_rest", "p_value", "q_value")}
        yield Finding("cell-above-rest", STEP, "info", row["cell"], sentence, {**numbers, "tested": tested})


_SUMMED = ("closed", "won", "margin", "customers", "ended", "months")
_COLUMNS = {
    "cell": "str",
    **dict.fromkeys(("n", "won", "win_rate", "win_low", "win_high", "win_rest"), "float64"),
    **dict.fromkeys(("value", "value_low", "value_high", "value_rest"), "float64"),
    "value_is": "str",
    **dict.fromkeys(("win_p", "value_p", "p_value", "q_value"), "float64"),
    "status": "str",
    "above": "bool",
}


def _nothing() -> pd.DataFrame:
    return pd.DataFrame({c: pd.Series([], dtype=t) for c, t in _COLUMNS.items()})


def _cells(accounts: pd.DataFrame, cube: Sequence[str]) -> pd.Series:
    """Name of each account's cell (index account_id); null where a dimension is not known."""
    parts = [build_levels(accounts, c).str.replace(r"^\d: ", "", regex=True) for c in cube]
    if not parts:
        return pd.Series([], dtype="str")
    name = parts[0]
    for part in parts[1:]:
        name = name + SEPARATOR + part
    return name


def _sums(
    opportunities: pd.DataFrame,
    accounts: pd.DataFrame,
    cell: pd.Series,
    subscriptions: pd.DataFrame | None,
    settings: Settings,
    as_of: pd.Timestamp,
) -> tuple[pd.DataFrame, str]:
    """What each account adds: closed, won, monthly margin of its customers, customers, endings, months lived."""
    closed = opportunities[(opportunities["status"] != "open") & ~no_decision(opportunities)]
    if settings.dated and settings.plan.window_days:
        closed = closed[closed["closed_at"] > as_of - pd.Timedelta(days=settings.plan.window_days)]
    won = closed["status"] == "won"
    adds = pd.DataFrame({"account_id": closed["account_id"], "closed": 1.0, "won": won.astype(float)})
    adds = adds.groupby("account_id").sum()
    fallback = settings.economics.gross_margin
    priced = None if subscriptions is None else _priced(subscriptions, fallback, as_of)
    if priced is not None and len(priced):
        value, value_is = _of_subscriptions(priced, as_of), "lifetime value"
    else:
        rate = opportunities["margin_rate"].astype("float64")
        known = opportunities[(opportunities["status"] == "won") & (opportunities["acv"] > 0) & rate.notna()]
        margin = known["acv"] * rate[known.index] / 12
        value = pd.DataFrame({"account_id": known["account_id"], "margin": margin, "customers": 1.0})
        value, value_is = value.assign(ended=0.0, months=0.0), "first-year margin"
    adds = adds.join(value.groupby("account_id").sum(), how="outer").fillna(0.0)
    family = accounts.set_index("account_id")["family_id"]
    adds = adds.assign(cell=cell.reindex(adds.index), family=family.reindex(adds.index)).sort_index()
    return adds[adds["cell"].notna() & adds["family"].notna()], value_is


def _priced(subscriptions: pd.DataFrame, fallback: float | None, as_of: pd.Timestamp) -> pd.DataFrame:
    """Subscriptions whose monthly margin is known, with it and their end as known on the date."""
    frame = subscriptions[subscriptions["account_id"].notna() & (subscriptions["mrr"] > 0)]
    margin = frame["gross_margin"].astype("float64").fillna(np.nan if fallback is None else fallback)
    frame = frame.assign(margin=frame["mrr"] * margin, end=frame["ended_at"].where(frame["ended_at"] <= as_of))
    return frame[frame["margin"].notna()].sort_values(["account_id", "started_at"], kind="stable")


def _of_subscriptions(frame: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Per account: first monthly margin, whether it was lost for good, and months lived."""
    by = frame.groupby("account_id", sort=True)
    start, last = by["started_at"].min(), by["end"].max().where(by["end"].count() == by.size())
    first = frame[frame["started_at"] == frame["account_id"].map(start)].groupby("account_id")["margin"].sum()
    months = ((last.fillna(as_of) - start).dt.days / DAYS_PER_MONTH).clip(lower=0.5)
    adds = pd.DataFrame({"margin": first, "customers": 1.0, "ended": last.notna().astype(float), "months": months})
    return adds.reset_index()


def _drawn(weights: npt.NDArray, unit: npt.NDArray, codes: npt.NDArray, values: Array, cells: int) -> Array:
    """Sums per resample (the first: the data) and cell."""
    flat = np.bincount(unit * cells + codes, weights=values, minlength=weights.shape[1] * cells)
    return (weights @ flat.reshape(-1, cells).astype(np.float32)).astype(float)


def _contrast(sums: dict[str, Array], settings: Settings, value_is: str) -> pd.DataFrame:
    """Rates and values of each cell and of the rest, with one-sided p-values from the resampled spread."""
    from scipy.special import ndtr, ndtri

    rest = {c: v.sum(axis=1, keepdims=True) - v for c, v in sums.items()}
    with np.errstate(divide="ignore", invalid="ignore"):
        win, win_rest = sums["won"] / sums["closed"], rest["won"] / rest["closed"]
        churn = sums["ended"].sum(axis=1, keepdims=True) / np.maximum(sums["months"].sum(axis=1, keepdims=True), 1.0)
        lifetime = value_is == "lifetime value"
        value, value_rest = (_value(s, churn, settings, lifetime) for s in (sums, rest))
        gaps = win - win_rest, np.log(value) - np.log(value_rest)
        spreads = [_spread(g[1:]) for g in (*gaps, win, np.log(value))]
        win_p, value_p = (ndtr(-g[0] / s) for g, s in zip(gaps, spreads[:2], strict=True))
    half = float(ndtri((1 + LEVEL) / 2))
    return pd.DataFrame(
        {
            "n": sums["closed"][0],
            "won": sums["won"][0],
            "win_rate": win[0],
            "win_low": np.clip(win[0] - half * spreads[2], 0, 1),
            "win_high": np.clip(win[0] + half * spreads[2], 0, 1),
            "win_rest": win_rest[0],
            "value": np.where(np.isfinite(value[0]), value[0], np.nan),
            "value_low": value[0] * np.exp(-half * spreads[3]),
            "value_high": value[0] * np.exp(half * spreads[3]),
            "value_rest": value_rest[0],
            "win_p": win_p,
            "value_p": value_p,
        }
    )


def _spread(draws: Array) -> Array:
    """Standard deviation over resamples per cell; missing where fewer than nine in ten have a value."""
    known = np.isfinite(draws)
    n = np.maximum(known.sum(axis=0), 1)
    centre = np.where(known, draws, 0.0).sum(axis=0) / n
    spread = np.sqrt((np.where(known, draws - centre, 0.0) ** 2).sum(axis=0) / n)
    return np.where(known.mean(axis=0) > 0.9, spread, np.nan)


def _value(sums: dict[str, Array], churn: Array, settings: Settings, lifetime: bool) -> Array:
    """Margin of a customer over its discounted, capped life; over a year where nothing is known of lives."""
    monthly = sums["margin"] / sums["customers"]
    if not lifetime:
        return monthly * 12
    economics = settings.economics
    own = (sums["ended"] + PRIOR_MONTHS * churn) / (sums["months"] + PRIOR_MONTHS)
    stay = (1 - own) / (1 + economics.discount_rate) ** (1 / 12)
    return monthly * stay * (1 - stay**economics.ltv_months) / (1 - stay)
