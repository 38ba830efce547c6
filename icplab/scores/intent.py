"""Reads activities and outcomes, makes the intent of an account, and the half-life of a signal that ranks best on later ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.stats.resample import draw_weights
from icplab.scores.forward import MIN_TEST_WON, folds_of
from icplab.scores.training import Training, label_outcomes, one_hot

HALF_LIVES = (7, 14, 30, 60)  # days; the grid is declared, not searched
DEFAULT_HALF_LIFE = 30
INTENT_BUSY = 0.90  # an account as busy as this quantile of the active ones scores 50
INTENT_DEFAULT = 4.0  # decayed activity worth 50 where fewer than MIN_ACTIVE accounts are active
MIN_ACTIVE = 20
REPLICATES = 1000  # resamples of families behind the interval of a gain
LEVEL = 1 - 0.05 / (len(HALF_LIVES) - 1)  # of each interval: 95 % for all comparisons with the default together
RIDGE = 1.0  # of what is held equal; the signal itself is not shrunken
COLUMNS = ("half_life", "log_loss", "gain", "low", "high", "n", "note")


@dataclass(frozen=True)
class HalfLife:
    """The half-life in use (days), whether it was chosen by evidence, and the figures of every one of the grid."""

    days: int
    chosen: bool
    reason: str
    figures: pd.DataFrame


def choose_half_life(training: Training, decayed: pd.DataFrame, settings: Settings, seed: int) -> HalfLife:
    """The half-life whose signal, as it stood before an opportunity was opened, tells later outcomes best.

    Parameters
    ----------
    training : see `build_training`
    decayed : one row per opportunity: opportunity_id and, per half-life of HALF_LIVES, the sum of weights halved so until the
        day before the opportunity was opened (`features.decay_before`)
    settings : reads [plan] holdout_days, for the folds of the forward check
    seed : of the resampling of families

    Returns
    -------
    HalfLife
        `figures`: half_life, log_loss (mean, of later opportunities), gain over the default with its interval (low, high), n;
        the first row is no signal at all. Another than the default is taken only when the lower bound of its gain is above
        zero; of several the one that gains most.

    Notes
    -----
    On each fold of the forward check a logistic regression of the outcome on log(1 + signal), source, seller and motion is fitted
    to what was known at its beginning and judged on what was opened later. Whole families are resampled for all together.
    """
    empty = pd.DataFrame(columns=list(COLUMNS))
    if not training.dated or decayed.empty:
        why = "no activities before any opportunity" if training.dated else "no dates"
        return HalfLife(DEFAULT_HALF_LIFE, False, f"{why}: default kept", empty)
    tested = _predict(training, decayed, settings)
    if len(tested) == 0 or min(tested["outcome"].sum(), (1 - tested["outcome"]).sum()) < MIN_TEST_WON:
        return HalfLife(DEFAULT_HALF_LIFE, False, "too few later outcomes: default kept", empty)
    figures = _measure(tested, seed)
    rivals = figures[figures["half_life"].isin([str(h) for h in HALF_LIVES if h != DEFAULT_HALF_LIFE])]
    proven = rivals[rivals["low"] > 0].sort_values("gain", ascending=False, kind="stable")
    if proven.empty:
        return HalfLife(DEFAULT_HALF_LIFE, False, "not enough evidence for another: default kept", figures)
    days = int(proven["half_life"].iloc[0])
    return HalfLife(days, True, f"{days} days tells later outcomes better than {DEFAULT_HALF_LIFE}", figures)


def intent_scores(
    account_id: pd.Series,
    activities: pd.DataFrame,
    as_of: pd.Timestamp,
    half: float = INTENT_DEFAULT,
    days: int = DEFAULT_HALF_LIFE,
) -> pd.Series:
    """Recent activity per account on 0-100: 100 × s / (s + half), s = sum of weight × 2^(−age / days).

    Null for everybody without activities; 0 for an account that has none.
    """
    if len(activities) == 0:
        return pd.Series(np.nan, index=account_id.index)
    strength = account_id.map(_decayed(activities, as_of, days)).astype("float64").fillna(0.0)
    return (100 * strength / (strength + half)).round(1)


def busy_level(activities: pd.DataFrame | None, as_of: pd.Timestamp, days: int = DEFAULT_HALF_LIFE) -> float:
    """Decayed activity of a busy account, among those active within three half-lives."""
    if activities is None or len(activities) == 0:
        return INTENT_DEFAULT
    strength = _decayed(activities, as_of, days)
    active = strength[strength >= 2.0**-3]
    return round(float(active.quantile(INTENT_BUSY)), 4) if len(active) >= MIN_ACTIVE else INTENT_DEFAULT


def _decayed(activities: pd.DataFrame, as_of: pd.Timestamp, days: int) -> pd.Series:
    """Sum of decayed weights per account, of what happened by `as_of`."""
    known = activities[activities["occurred_at"] <= as_of]
    age = (as_of - known["occurred_at"]).dt.days.astype("float64")
    signal = known["weight"].astype("float64").fillna(1.0).clip(lower=0) * np.exp2(-age / days)
    return signal.round(9).groupby(known["account_id"]).sum()


def _predict(training: Training, decayed: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Log loss of every half-life, and of no signal, per tested opportunity with a known outcome."""
    rows = training.opportunities
    signal = decayed.set_index("opportunity_id").reindex(rows["opportunity_id"])
    given = signal.notna().all(axis=1).to_numpy()
    x = {str(h): np.log1p(signal[h].fillna(0.0).to_numpy("float64")) for h in HALF_LIVES}
    equal = np.hstack(
        [np.zeros((len(rows), 0)), *(one_hot(rows[c]) for c in ("source", "owner", "motion") if c in rows)]
    )
    parts = []
    for number, (split, train, test, _) in enumerate(folds_of(training, settings)):
        y, w = training.labels(split)
        w = np.where(train & given, w, 0.0)
        later = rows.loc[test & given]
        if min((w * y).sum(), (w * (1 - y)).sum()) < MIN_TEST_WON or later.empty:
            continue
        outcome, weight = label_outcomes(later, training.as_of, training.horizon_days, training.dated)
        part = later[["opportunity_id", "family_id"]].assign(fold=number, outcome=outcome, weight=weight)
        for name, column in (("none", np.zeros(len(rows))), *x.items()):
            p = _fitted(column, equal, y, w)[test & given]
            part[name] = -(outcome * np.log(p) + (1 - outcome) * np.log(1 - p))
        parts.append(part[part["weight"] > 0])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _fitted(x: np.ndarray, equal: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Probability per row by a logistic regression on one signal, with other columns held equal and shrunken."""
    design = np.column_stack([np.ones_like(x), x, equal])
    penalty = np.concatenate([[1e-9, 1e-6], np.full(equal.shape[1], RIDGE)])
    beta = np.zeros(design.shape[1])
    for _ in range(50):
        mean = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        information = (design * (w * mean * (1 - mean))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(information, design.T @ (w * (y - mean)) - penalty * beta)
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    return np.clip(1 / (1 + np.exp(-np.clip(design @ beta, -30, 30))), 1e-6, 1 - 1e-6)


def _measure(tested: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Mean log loss of each, and the gain over the default with its interval."""
    tested = tested.sort_values("opportunity_id", ignore_index=True)
    codes, families = pd.factorize(tested["family_id"], sort=True)
    w = tested["weight"].to_numpy("float64")
    draws = np.vstack([w, draw_weights(len(families), REPLICATES, seed)[:, codes] * w])
    names = ["none", *map(str, HALF_LIVES)]
    loss = draws @ tested[names].to_numpy("float64") / np.maximum(draws.sum(axis=1, keepdims=True), 1e-12)
    usual = loss[:, names.index(str(DEFAULT_HALF_LIFE))]
    rows = []
    for k, name in enumerate(names):
        gain = usual - loss[:, k]
        low, high = np.quantile(gain[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        own = name == str(DEFAULT_HALF_LIFE)
        note = "no signal at all" if name == "none" else "default" if own else ""
        shown = (np.nan,) * 3 if own else (gain[0], low, high)
        rows.append((name, loss[0, k], *shown, float(len(tested)), note))
    return pd.DataFrame(rows, columns=list(COLUMNS))
