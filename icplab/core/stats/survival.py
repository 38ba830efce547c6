"""Reads durations and what ended them, makes cumulative incidence, survival and retention curves.

Everything works on counts per day, with any number of leading axes: resampled counts (weights @ counts) give resampled
curves in the same call.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core.stats.intervals import LEVEL

CENSORED, EVENT, COMPETING = 0, 1, 2  # what ended a duration: nothing yet, the event asked about, another one

Array = npt.NDArray[np.float64]


class Counts(NamedTuple):
    """What happened on each distinct day: `event`, `competing` and `left` (all three kinds) per unit and day."""

    days: Array
    event: Any  # scipy sparse, units x days
    competing: Any
    left: Any


class Curve(NamedTuple):
    """Cumulative incidence of the event, and survival of both kinds, after each day; shape (..., days)."""

    days: Array
    incidence: Array
    survival: Array
    at_risk: Array


def count_events(
    days: npt.ArrayLike, cause: npt.ArrayLike, *, units: npt.ArrayLike | None = None, n_units: int | None = None
) -> Counts:
    """Count events per unit and distinct day, the form that all curves here start from.

    Parameters
    ----------
    days : array_like
        Days until the event or until censoring; not negative, not missing.
    cause : array_like
        0 censored, 1 the event, 2 a competing event.
    units : array_like of int, optional
        Unit (account family) of each duration, 0..n_units-1; default: each its own.
    n_units : int, optional
        Number of units.

    Returns
    -------
    Counts
        Sparse matrices units x days.
    """
    from scipy.sparse import csr_matrix

    days, cause = np.asarray(days, dtype=float), np.asarray(cause)
    if days.shape != cause.shape or np.isnan(days).any() or (days < 0).any():
        raise ValueError("days must be known, not negative and as many as causes")
    rows = np.arange(len(days)) if units is None else np.asarray(units)
    shape_rows = int(rows.max(initial=-1)) + 1 if n_units is None else n_units
    grid, column = np.unique(days, return_inverse=True)

    def counted(kept: npt.NDArray) -> Any:
        ones = np.ones(int(kept.sum()), dtype=np.float32)
        return csr_matrix((ones, (rows[kept], column[kept])), shape=(shape_rows, len(grid)))

    return Counts(grid, counted(cause == EVENT), counted(cause == COMPETING), counted(np.ones(len(days), dtype=bool)))


def aalen_johansen(counts: Counts, weights: npt.NDArray | None = None) -> Curve:
    """Aalen-Johansen cumulative incidence of the event in the presence of a competing one.

    Parameters
    ----------
    counts : Counts
        From `count_events`.
    weights : ndarray, shape (replicates, units), optional
        Weights of the units; every replicate gives one curve. Default: each unit once, one curve without leading axis.

    Returns
    -------
    Curve
        `incidence` is the probability that the event has happened by each day; `survival` that neither has. Where
        nobody is at risk the curve stays where it is.

    Notes
    -----
    Sum over days of S(t-) x events / at risk. One minus Kaplan-Meier with the competing event censored would
    overstate it (Satagopan et al. 2004). On tied days censored units are still at risk.
    """
    won, lost, left = (_weighted(m, weights) for m in (counts.event, counts.competing, counts.left))
    at_risk = np.cumsum(left[..., ::-1], axis=-1)[..., ::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        known = at_risk > 0
        hazard = np.divide(won + lost, at_risk, out=np.zeros_like(at_risk), where=known)
        share = np.divide(won, at_risk, out=np.zeros_like(at_risk), where=known)
    survival = np.cumprod(1 - hazard, axis=-1)
    before = np.concatenate([np.ones_like(survival[..., :1]), survival[..., :-1]], axis=-1)
    return Curve(counts.days, np.cumsum(before * share, axis=-1), survival, at_risk)


def value_at(days: Array, values: Array, horizon: float, start: float = 0.0) -> Array:
    """Value of a right-continuous step curve at `horizon`; `start` before the first day."""
    place = int(np.searchsorted(days, horizon, side="right"))
    return values[..., place - 1] if place else np.full(values.shape[:-1], start)


def first_day_at_or_below(days: Array, survival: Array, share: float) -> Array:
    """First day on which a survival curve is at or below `share`; NaN where it never gets there."""
    reached = survival <= share + 1e-12
    place = np.argmax(reached, axis=-1) if survival.shape[-1] else np.zeros(survival.shape[:-1], dtype=int)
    grid = days if len(days) else np.array([np.nan])
    return np.where(reached.any(axis=-1), grid[place], np.nan)


def kaplan_meier(
    days: npt.ArrayLike, happened: npt.ArrayLike, *, weights: npt.ArrayLike | None = None, level: float = LEVEL
) -> pd.DataFrame:
    """Kaplan-Meier survival as a table, one row per distinct day.

    Parameters
    ----------
    days : array_like
        Days until the event or censoring.
    happened : array_like of bool
        Whether the event ended it.
    weights : array_like, optional
        Weight of each duration; default 1.
    level : float
        Confidence level.

    Returns
    -------
    DataFrame
        `day, at_risk, events, survival, std_error, low, high`; the interval is Greenwood's on the log(-log) scale
        and treats durations as independent (use resampled curves where they are clustered).

    Notes
    -----
    Kaplan and Meier (1958); Kalbfleisch and Prentice (2002), section 1.4.
    """
    from scipy.special import ndtri

    given = None if weights is None else np.asarray(weights, dtype=np.float32)[None, :]
    counts = count_events(days, np.where(np.asarray(happened, dtype=bool), EVENT, CENSORED))
    curve = aalen_johansen(counts, given)
    at_risk, survival = np.atleast_2d(curve.at_risk)[0], np.atleast_2d(curve.survival)[0]
    events = np.atleast_2d(_weighted(counts.event, given))[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(np.where(at_risk > events, events / (at_risk * (at_risk - events)), np.inf))
        inner = np.log(-np.log(survival))
        half = ndtri((1 + level) / 2) * np.sqrt(greenwood) / np.abs(np.log(survival))
        low, high = np.exp(-np.exp(inner + half)), np.exp(-np.exp(inner - half))
        error = survival * np.sqrt(greenwood)
    return pd.DataFrame(
        {
            "day": curve.days,
            "at_risk": at_risk,
            "events": events,
            "survival": survival,
            "std_error": error,
            "low": low,
            "high": high,
        }
    )


class Retention(NamedTuple):
    """Shifted-beta-geometric retention: share kept after 0, 1, 2, ... periods, and its two parameters."""

    kept: Array
    alpha: Array
    beta: Array


def retention_curve(
    churned: npt.ArrayLike, at_risk: npt.ArrayLike, periods: int, *, near: Retention | None = None
) -> Retention:
    """Share of customers kept after each period, also beyond the observed ones.

    Parameters
    ----------
    churned : array_like, shape (..., m)
        Customers who left during period 1..m of their life.
    at_risk : array_like, shape (..., m)
        Customers who were there at its start and were observed through it.
    periods : int
        Periods wanted (months, when counts are monthly).
    near : Retention, optional
        Curve of the whole data: resampled tables are then searched on a coarse grid around it (steps of 6 % in churn,
        far narrower than their own spread), which is much faster. Default: everywhere, then finely (to about 0.5 %).

    Returns
    -------
    Retention
        `kept` has shape (..., periods + 1), starts at 1.

    Notes
    -----
    Shifted-beta-geometric (Fader and Hardie 2007): customers differ in their churn probability, Beta(alpha, beta)
    among them, so the observed churn falls with age as the fragile leave first. One constant churn rate would
    understate the value of those who stay (Fader and Hardie 2010). Maximum likelihood on a grid of mean and
    spread: the likelihood is linear in the counts, so thousands of resampled tables are fitted in one matrix
    product, deterministically. Churn of the first period is bounded to
    0.05-90 %.
    """
    lost, risk = np.asarray(churned, dtype=float), np.asarray(at_risk, dtype=float)
    mean, spread = _sbg_grid(near)
    hazard = _sbg_hazard(mean, spread, lost.shape[-1])
    best = np.argmax(lost @ np.log(hazard) + (risk - lost) @ np.log1p(-hazard), axis=-1)
    mean, spread = mean[best], spread[best]
    for width in _SBG_REFINE if near is None else ():
        mean, spread = _sbg_closer(lost, risk, mean, spread, width)
    kept = np.moveaxis(np.cumprod(1 - _sbg_hazard(mean, spread, periods), axis=0), 0, -1)
    return Retention(
        np.concatenate([np.ones((*kept.shape[:-1], 1)), kept], axis=-1), mean / spread, (1 - mean) / spread
    )


_SBG_MEANS = np.geomspace(0.0005, 0.9, 240)  # first-period churn
_SBG_SPREADS = np.concatenate([[1e-4], np.geomspace(0.002, 5.0, 29)])  # 1 / (alpha + beta); near 0: constant churn
_SBG_REFINE = (0.3, 0.1, 0.03, 0.01)


def _sbg_grid(near: Retention | None) -> tuple[Array, Array]:
    """Pairs of first-period churn and spread to try: everywhere, or around a known curve."""
    means, spreads = _SBG_MEANS, _SBG_SPREADS
    if near is not None:
        spread = 1 / float(near.alpha + near.beta)
        means = np.clip(float(near.alpha) * spread * np.geomspace(1 / 3, 3, 39), _SBG_MEANS[0], _SBG_MEANS[-1])
        spreads = np.concatenate([[_SBG_SPREADS[0]], max(spread, 0.02) * np.geomspace(1 / 8, 8, 9)])
    mean, spread_grid = np.meshgrid(means, spreads, indexing="ij")
    return mean.ravel(), spread_grid.ravel()


def _sbg_hazard(mean: Array, spread: Array, periods: int) -> Array:
    """Churn in each period of life, first axis: (alpha) / (alpha + beta + age)."""
    age = np.arange(periods).reshape(-1, *([1] * np.ndim(mean)))
    return mean / (1 + spread * age)


def _sbg_closer(lost: Array, risk: Array, mean: Array, spread: Array, width: float) -> tuple[Array, Array]:
    """Best of nine by nine points within `width` (relative) of the given parameters."""
    steps = np.exp(np.linspace(-width, width, 9))
    around = np.minimum((mean[..., None, None] * steps[:, None]) + 0 * steps, _SBG_MEANS[-1])
    beside = np.maximum((spread[..., None, None] * steps) + 0 * steps[:, None], _SBG_SPREADS[0])
    around, beside = (v.reshape(*mean.shape, -1) for v in (around, beside))
    hazard = _sbg_hazard(around, beside, lost.shape[-1])
    gone, stayed = (np.moveaxis(v, -1, 0)[..., None] for v in (lost, risk - lost))
    best = np.argmax((gone * np.log(hazard) + stayed * np.log1p(-hazard)).sum(axis=0), axis=-1)[..., None]
    return np.take_along_axis(around, best, -1)[..., 0], np.take_along_axis(beside, best, -1)[..., 0]


def _weighted(counts: Any, weights: npt.NDArray | None) -> Array:
    """Counts per day, one row per replicate."""
    if weights is None:
        return np.asarray(counts.sum(axis=0)).ravel().astype(np.float64)
    return np.asarray((counts.T @ weights.T).T).astype(np.float64)
