"""Reads log odds of opportunities and what became of them, makes the level of today: how far the last half year stands from the card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from icplab.scores.training import label_outcomes

RECENT_DAYS = 182  # opportunities opened in so many days speak for today
PROOF = 1.96  # standard errors: 5 % for each of two readings that must agree
PERIOD_SD = 0.10  # log odds by which a quarter may be better or worse without a change of level
QUARTERS = 2  # in RECENT_DAYS
MIN_OUTCOMES = 20  # won and lost of the recent ones, below which nothing is said


@dataclass(frozen=True)
class Level:
    """Log odds by which today's level lies above the card's, and its standard error; zero both where nothing is proven."""

    shift: float = 0.0
    error: float = 0.0


def measure_level(
    log_odds: np.ndarray, opportunities: pd.DataFrame, as_of: pd.Timestamp, horizon_days: int, dated: bool = True
) -> Level:
    """Whether opportunities opened lately are won more or less often than the card says, and by how much.

    Parameters
    ----------
    log_odds : of winning within the horizon by the card, per opportunity
    opportunities : reads created_at, closed_at, status, motion, family_id
    as_of : what was opened or closed later is not known
    horizon_days, dated : as in `label_outcomes`

    Returns
    -------
    Level

    Notes
    -----
    The outcome of most recent opportunities is still open, so they are read in two ways: wins so far against the wins that
    the card expects by that age (blind to a clean-up of lost ones), and the share won of those closed against what it
    expects of closed ones of that age (blind to a change of pace). How fast wins and losses come is taken from all
    opportunities. Both must lie on the same side by PROOF standard errors, families counted whole and a common luck of
    quarters allowed for; then the smaller one counts, drawn to zero by its own uncertainty.
    """
    if not dated:
        return Level()
    outcome, weight = label_outcomes(opportunities, as_of, horizon_days, dated)
    age = (as_of - opportunities["created_at"]).dt.days.to_numpy("float64")
    cycle = (opportunities["closed_at"] - opportunities["created_at"]).dt.days.to_numpy("float64")
    recent = (age >= 0) & (age <= min(RECENT_DAYS, horizon_days))
    closed = opportunities["status"].isin(["won", "lost"]).to_numpy() & (cycle <= age)
    won = closed & (opportunities["status"] == "won").to_numpy()
    if min((won & recent).sum(), (closed & ~won & recent).sum()) < MIN_OUTCOMES:
        return Level()
    won_by, lost_by = (
        _arrived(age[recent], cycle, weight * (closed & (outcome == side)), horizon_days) for side in (1.0, 0.0)
    )
    families = pd.factorize(opportunities["family_id"].to_numpy()[recent])[0]
    readings = [
        _against_time(log_odds[recent], won[recent], won_by, families),
        _among_closed(log_odds[recent], won[recent], closed[recent], won_by, lost_by, families),
    ]
    errors = [float(np.hypot(error, PERIOD_SD / np.sqrt(QUARTERS))) for _, error in readings]
    proven = [abs(shift) > PROOF * error for (shift, _), error in zip(readings, errors, strict=True)]
    if not all(proven) or readings[0][0] * readings[1][0] < 0:
        return Level()
    least = int(abs(readings[1][0]) < abs(readings[0][0]))
    shift, error = readings[least][0], errors[least]
    return Level(round(shift * (1 - (error / shift) ** 2), 6), round(error, 6))


def _arrived(ages: np.ndarray, cycle: np.ndarray, weight: np.ndarray, horizon_days: int) -> np.ndarray:
    """Share of outcomes of a kind that have come by each age."""
    rows = weight > 0
    days = np.minimum(cycle[rows], horizon_days)
    order = np.argsort(days, kind="stable")
    share = np.cumsum(weight[rows][order]) / weight[rows].sum() if rows.any() else np.zeros(0)
    place = np.searchsorted(days[order], ages, side="right")
    return np.append(0.0, share)[place]


def _against_time(
    log_odds: np.ndarray, won: np.ndarray, arrived: np.ndarray, families: np.ndarray
) -> tuple[float, float]:
    """Shift at which wins so far are as many as expected by that age, and its standard error."""
    return _solve(lambda shift: _expit(log_odds + shift) * arrived, log_odds, won.astype(float), arrived, families)


def _among_closed(
    log_odds: np.ndarray,
    won: np.ndarray,
    closed: np.ndarray,
    won_by: np.ndarray,
    lost_by: np.ndarray,
    families: np.ndarray,
) -> tuple[float, float]:
    """Shift at which as many of the closed ones are won as expected of closed ones of that age, and its standard error."""
    rows = closed & (won_by > 0) & (lost_by > 0)
    odds = log_odds[rows] + np.log(won_by[rows] / lost_by[rows])
    whole = np.ones(int(rows.sum()))
    return _solve(lambda shift: _expit(odds + shift), odds, won[rows].astype(float), whole, families[rows])


def _solve(
    expected: Callable[[float], np.ndarray],
    odds: np.ndarray,
    y: np.ndarray,
    arrived: np.ndarray,
    families: np.ndarray,
) -> tuple[float, float]:
    """Newton's method on one number, with families counted whole in its error."""
    shift, curve = 0.0, 1e-9
    for _ in range(50):
        mean = expected(shift)
        chance = _expit(odds + shift)
        curve = max(float((arrived * chance * (1 - chance)).sum()), 1e-9)
        step = float((y - mean).sum()) / curve
        shift += float(np.clip(step, -1, 1))
        if abs(step) < 1e-10:
            break
    pull = np.bincount(families, weights=y - expected(shift))
    return shift, float(np.sqrt((pull**2).sum())) / curve


def _expit(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))
