"""Reads closed opportunities of the levels of a cut, makes crude win-rate differences beside standardised ones.

A level can win more only because it comes through a better channel, is of another size or was sold in a better time;
the standardised difference compares like with like.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core.config import Settings
from icplab.core.stats.intervals import LEVEL
from icplab.core.stats.resample import REPLICATES, draw_weights
from icplab.performance.cuts import build_levels, find_levels, key_of
from icplab.performance.prepare import no_decision

SIZES = ("employees", "annual_revenue")
MAX_SOURCES = 8  # smaller channels are taken together
Array = npt.NDArray[np.float64]


def compare_standardised(
    opportunities: pd.DataFrame,
    *,
    accounts: pd.DataFrame,
    cut: str,
    levels: pd.Series | None = None,
    settings: Settings,
    as_of: pd.Timestamp,
    seed: int,
    replicates: int = REPLICATES,
) -> pd.DataFrame:
    """Win rate (closed basis) of each level against all other levels, crude and with channel, size and half-year held equal.

    Parameters
    ----------
    opportunities, accounts, cut, levels, settings, as_of, seed
        As in `measure_kpis`. Strata are source x quartile band of employees x half-year of closing; a column that is
        itself the cut, or that is not there, is left out. Missing values are a stratum of their own.
    replicates : int
        Resamples of account families; crude and standardised come from the same ones.

    Returns
    -------
    DataFrame
        One row per level with closed opportunities: `cut, level, n, crude, crude_low, crude_high, crude_p, standardised,
        standardised_low, standardised_high, moved_p, reversal`. Differences of rates (level minus rest), 95 %
        intervals from the resampled spread; `moved_p` tests crude against standardised. `reversal`: the crude interval
        excludes none, the standardised sign is opposite, and the interval of their difference excludes zero.

    Notes
    -----
    Mantel-Haenszel risk difference (Greenland and Robins 1985), which keeps sparse strata usable.
    """
    closed = _closed(opportunities, settings, as_of)
    levels = find_levels(cut, accounts, opportunities, settings) if levels is None else levels
    weights = _weights(closed, seed, replicates)
    return _compare(closed, _strata(closed, accounts, cut), weights, cut, levels)


def compare_cuts(
    opportunities: pd.DataFrame,
    cuts: Iterable[str],
    *,
    accounts: pd.DataFrame,
    settings: Settings,
    as_of: pd.Timestamp,
    seed: int,
    replicates: int = REPLICATES,
) -> pd.DataFrame:
    """`compare_standardised` for several cuts, one below the other, from the same resamples."""
    from threadpoolctl import threadpool_limits

    closed = _closed(opportunities, settings, as_of)
    weights = _weights(closed, seed, replicates)
    usual = _strata(closed, accounts, "")
    with threadpool_limits(1):  # many small products: threads would wait for each other, and add up in another order
        parts = [
            _compare(
                closed,
                _strata(closed, accounts, cut) if cut in ("source", *SIZES) else usual,
                weights,
                cut,
                find_levels(cut, accounts, opportunities, settings),
            )
            for cut in cuts
        ]
    return pd.concat(parts, ignore_index=True) if parts else _nothing()


_COLUMNS = {
    "cut": "str",
    "level": "str",
    **dict.fromkeys(("n", "crude", "crude_low", "crude_high", "crude_p"), "float64"),
    **dict.fromkeys(("standardised", "standardised_low", "standardised_high", "moved_p"), "float64"),
    "reversal": "bool",
}


def _nothing() -> pd.DataFrame:
    return pd.DataFrame({c: pd.Series([], dtype=t) for c, t in _COLUMNS.items()})


def _closed(opportunities: pd.DataFrame, settings: Settings, as_of: pd.Timestamp) -> pd.DataFrame:
    """Decided opportunities of the window, sorted by id, with the number of their family."""
    frame = opportunities.sort_values("opportunity_id", ignore_index=True)
    kept = (frame["status"] != "open") & ~no_decision(frame)
    if settings.dated and settings.plan.window_days:
        kept &= frame["closed_at"] > as_of - pd.Timedelta(days=settings.plan.window_days)
    frame = frame[kept]
    return frame.assign(won=frame["status"] == "won", unit=pd.factorize(frame["family_id"], sort=True)[0])


def _weights(closed: pd.DataFrame, seed: int, replicates: int) -> npt.NDArray[np.float32]:
    """Resampling weights of the families; the first row is the data themselves."""
    n = closed["unit"].nunique()
    return np.vstack([np.ones((1, n), np.float32), draw_weights(n, replicates, seed)])


def _compare(
    closed: pd.DataFrame, strata: pd.Series, weights: npt.NDArray[np.float32], cut: str, levels: pd.Series
) -> pd.DataFrame:
    """One row per level of a cut."""
    key = key_of(levels)
    level = closed[key].map(levels).astype("str")
    known = level.notna()
    if not known.any():
        return _nothing()
    codes, names = pd.factorize(level[known], sort=True)
    stratum, kinds = pd.factorize(strata[known], sort=True)
    unit, won = closed.loc[known, "unit"].to_numpy(), closed.loc[known, "won"].to_numpy(dtype=float)
    cells = (weights.shape[1], len(kinds))
    everything, wins = (_drawn(weights, unit, stratum, v, cells) for v in (np.ones(len(won)), won))
    rows = []
    for i, name in enumerate(names):
        inside = (codes == i).astype(float)
        n1, a = (_drawn(weights, unit, stratum, v, cells) for v in (inside, won * inside))
        rows.append({"cut": cut, "level": name, "n": inside.sum(), **_contrast(n1, a, everything, wins)})
    return pd.DataFrame(rows).astype(_COLUMNS)


def _strata(closed: pd.DataFrame, accounts: pd.DataFrame, cut: str) -> pd.Series:
    """Name of the stratum of each opportunity."""
    parts = []
    if cut != "source" and "source" in closed:
        source = closed["source"].astype("str")
        parts.append(
            source.where(source.isin(source.value_counts().index[:MAX_SOURCES]), "other").where(source.notna())
        )
    if cut not in SIZES and "employees" in accounts and accounts["employees"].notna().any():
        parts.append(closed["account_id"].map(build_levels(accounts, "employees")))
    if closed["closed_at"].notna().any():
        date = closed["closed_at"]
        parts.append((date.dt.year.astype("str") + "H" + ((date.dt.month > 6) + 1).astype("str")).where(date.notna()))
    name = pd.Series("", index=closed.index, dtype="str")
    for part in parts:
        name = name + "|" + part.astype("str").fillna("unknown")
    return name


def _drawn(
    weights: npt.NDArray, unit: npt.NDArray, stratum: npt.NDArray, values: Array, cells: tuple[int, int]
) -> Array:
    """Resampled sums per stratum; the first row is the data themselves."""
    flat = np.bincount(unit * cells[1] + stratum, weights=values, minlength=cells[0] * cells[1])
    return (weights @ flat.reshape(cells).astype(np.float32)).astype(float)


def _contrast(n1: Array, a: Array, everything: Array, wins: Array) -> dict[str, object]:
    """Crude and standardised difference with intervals, from sums per resample (first row: the data) and stratum."""
    from scipy.special import ndtr, ndtri

    n0, c = everything - n1, wins - a
    with np.errstate(divide="ignore", invalid="ignore"):
        crude = a.sum(axis=1) / n1.sum(axis=1) - c.sum(axis=1) / n0.sum(axis=1)
        above = np.where(everything > 0, (a * n0 - c * n1) / everything, 0.0).sum(axis=1)
        below = np.where(everything > 0, n1 * n0 / everything, 0.0).sum(axis=1)
        level = np.where(below > 0, above / below, np.nan)
        spreads = [
            np.nanstd(v[1:]) if np.isfinite(v[1:]).mean() > 0.9 else np.nan for v in (crude, level, crude - level)
        ]
        crude_p, moved_p = (
            2 * ndtr(-abs(e) / s) for e, s in ((crude[0], spreads[0]), (crude[0] - level[0], spreads[2]))
        )
    half = float(ndtri((1 + LEVEL) / 2))
    return {
        "crude": crude[0],
        "crude_low": crude[0] - half * spreads[0],
        "crude_high": crude[0] + half * spreads[0],
        "crude_p": crude_p,
        "standardised": level[0],
        "standardised_low": level[0] - half * spreads[1],
        "standardised_high": level[0] + half * spreads[1],
        "moved_p": moved_p,
        "reversal": bool(crude_p < 1 - LEVEL and moved_p < 1 - LEVEL and crude[0] * level[0] < 0),
    }
