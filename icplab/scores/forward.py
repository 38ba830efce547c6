"""Reads a training frame, makes the forward check: what models of the past said about the opportunities that followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.stats.resample import draw_weights
from icplab.scores.fit import Fitted, fit_inputs
from icplab.scores.scorecard import build_card, opportunity_effects, points_of_rows
from icplab.scores.training import Training, label_outcomes

MIN_WON = MIN_LOST = 40  # floor that vendors use (crm-facts: Dynamics); below it no model is fitted
MIN_TEST_WON = 10  # wins of the test period below which its AUC says nothing
FOLDS = 5  # of the cross-validation where there are no dates
REPLICATES = 500  # resamples of families behind the interval of the AUC
SLOPE_SD = 0.05  # how far the slope of a shrunken model is expected from 1; forward folds must speak against it
LEVEL = 0.95


# Split date (none without dates), rows to train on, rows to test, name of the tested period.
Fold = tuple[pd.Timestamp | None, np.ndarray, np.ndarray, str]


@dataclass(frozen=True)
class ForwardCheck:
    """How well the past ranked what followed.

    Attributes
    ----------
    predictions : one row per tested opportunity: opportunity_id, account_id, family_id, motion, fold, period, win_probability,
        outcome, weight, linear (log odds before rounding), points (whole)
    measures : estimate table: measure (auc, auc_unrounded, slope, in_the_large, brier, brier_base), value, low, high, n, unit, basis
    bins : calibration by fifth of the prediction: bin, n, predicted, observed, low, high
    basis : forward, or cross_validation where there are no dates
    verdict : usable, no-usable-ranking or insufficient-evidence
    slope : factor for the calibration of the final model
    """

    predictions: pd.DataFrame
    measures: pd.DataFrame
    bins: pd.DataFrame
    basis: str
    verdict: str
    slope: float


def check_forward(training: Training, settings: Settings, seed: int) -> ForwardCheck:
    """Refit everything, selection of traits too, on what was known at earlier dates; test on what was opened afterwards.

    Parameters
    ----------
    training : see `build_training`
    settings : reads [plan] holdout_days
    seed : of the resampling of families

    Returns
    -------
    ForwardCheck

    Notes
    -----
    Rolling origin. A fold is trained on opportunities created by its split date, with outcomes as known on that date (what
    was open then is open), so no label reaches past the split and no further embargo is needed. It is tested on opportunities
    created until the next split, with outcomes as known on as_of and weights for those not known yet. Traits and segments of
    accounts are those of today: their history is not in the export. Without dates: cross-validation with whole families
    (identical rows share one) left out together.
    """
    y, w = training.labels()
    if ((y > 0) & (w > 0)).sum() < MIN_WON or ((y == 0) & (w > 0)).sum() < MIN_LOST:
        return _nothing(training, "insufficient-evidence")
    folds = _dated_folds(training, settings) if training.dated else _family_folds(training)
    parts = [_test_fold(training, k, *fold) for k, fold in enumerate(folds)]
    predictions = pd.concat([p for p in parts if len(p)], ignore_index=True) if any(map(len, parts)) else pd.DataFrame()
    basis = "forward" if training.dated else "cross_validation"
    if len(predictions) == 0:
        return _nothing(training, "insufficient-evidence", basis)
    predictions = _label(training, predictions)
    known = predictions[predictions["weight"] > 0]
    if known["outcome"].sum() < MIN_TEST_WON or (known["outcome"] == 0).sum() < MIN_TEST_WON:
        return _nothing(training, "insufficient-evidence", basis)
    measures = _measure(known, basis, seed)
    low = float(measures.loc[measures["measure"] == "auc", "low"].iloc[0])
    slope = measures.set_index("measure").loc["slope"]
    error = max((slope["high"] - slope["low"]) / (2 * 1.96), 1e-3)
    trust = SLOPE_SD**2 / (SLOPE_SD**2 + error**2)
    shrink = float(np.clip(1 + trust * (slope["value"] - 1), 0.5, 1.2))
    verdict = "usable" if low > 0.5 else "no-usable-ranking"
    return ForwardCheck(predictions, measures, _bins(known), basis, verdict, shrink)


def auc(score: np.ndarray, outcome: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted probability that a won opportunity scores above a lost one, ties half; weights (…, rows) give one each."""
    order = np.argsort(score, kind="stable")
    _, group = np.unique(score[order], return_inverse=True)
    w = np.atleast_2d(weight)[:, order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    won = np.add.reduceat(w * outcome[order], starts, axis=1)
    lost = np.add.reduceat(w * (1 - outcome[order]), starts, axis=1)
    below = np.cumsum(lost, axis=1) - lost / 2
    with np.errstate(invalid="ignore"):
        area = (won * below).sum(axis=1) / (won.sum(axis=1) * lost.sum(axis=1))
    return area if np.ndim(weight) > 1 else area[0]


def _dated_folds(training: Training, settings: Settings) -> list[Fold]:
    """Split dates and rows: at most half of the history is tested, in periods of [plan] holdout_days."""
    created = training.opportunities["created_at"]
    start, end = created.min(), training.as_of
    history = (end - start).days
    holdout = settings.plan.holdout_days or min(max(history // 4, 1), 365)
    span = min(history // 2, training.horizon_days + holdout)
    count = max(round(span / holdout), 1)
    splits = [end - pd.Timedelta(days=round(span * (count - k) / count)) for k in range(count)]
    folds: list[Fold] = []
    for split, until in zip(splits, [*splits[1:], end], strict=True):
        test = ((created > split) & (created <= until)).to_numpy()
        name = f"{split + pd.Timedelta(days=1):%Y-%m-%d}/{until:%Y-%m-%d}"
        folds.append((split, (created <= split).to_numpy(), test, name))
    return folds


def _family_folds(training: Training) -> list[Fold]:
    """Whole families dealt to folds by a hash of their id: the same folds in any order of rows."""
    family = training.opportunities["family_id"]
    place = pd.util.hash_array(family.to_numpy(dtype=object)) % FOLDS
    return [(None, place != k, place == k, "cross-validation") for k in range(FOLDS)]


def _test_fold(
    training: Training, fold: int, split: pd.Timestamp | None, train: np.ndarray, test: np.ndarray, period: str
) -> pd.DataFrame:
    """Predictions of one fold; empty where the past was too thin for a model."""
    y, w = training.labels(split)
    w = np.where(train, w, 0.0)
    if ((y > 0) & (w > 0)).sum() < MIN_WON // 2 or ((y == 0) & (w > 0)).sum() < MIN_LOST // 2:
        return pd.DataFrame()
    fitted = fit_scorecard(training, y, w)
    base, inputs = build_card(fitted)
    rows = training.opportunities.loc[test, ["opportunity_id", "account_id", "family_id", "motion"]]
    table = ("accounts", "opportunities")
    return rows.assign(
        fold=fold,
        period=period,
        linear=_without_owner(fitted, training)[test],
        points=points_of_rows(base, inputs, fitted, table)[test],
        account_points=points_of_rows(base, inputs, fitted, table[:1])[test],
        account_probability=1 / (1 + np.exp(-_of_account(fitted)[test])),
    )


def fit_scorecard(training: Training, outcome: np.ndarray, weight: np.ndarray) -> Fitted:
    """Select and fit the inputs of the card on the rows that have weight."""
    return fit_inputs(
        outcome,
        weight,
        training.forced,
        training.blocks,
        list(training.nuisance.values()),
        training.opportunities["family_id"].to_numpy(),
    )


def _without_owner(fitted: Fitted, training: Training) -> np.ndarray:
    """Log odds with an average seller and an average quarter: what is known on the day an opportunity is opened."""
    return fitted.linear - fitted.nuisance + fitted.nuisance.mean()


def _of_account(fitted: Fitted) -> np.ndarray:
    """Log odds of the account alone: everything about the opportunity at its average."""
    rest = fitted.nuisance + opportunity_effects(fitted)
    return fitted.linear - rest + rest.mean()


def _label(training: Training, predictions: pd.DataFrame) -> pd.DataFrame:
    """Outcomes as known on as_of; censoring weights from the tested opportunities alone. Probabilities per fold."""
    rows = training.opportunities.set_index("opportunity_id").loc[predictions["opportunity_id"]]
    outcome, weight = label_outcomes(rows, training.as_of, training.horizon_days, training.dated)
    return predictions.assign(outcome=outcome, weight=weight, win_probability=1 / (1 + np.exp(-predictions["linear"])))


def _measure(known: pd.DataFrame, basis: str, seed: int) -> pd.DataFrame:
    """AUC, slope, in the large and Brier score with intervals from resampled families."""
    known = known.sort_values("opportunity_id", ignore_index=True)
    codes, families = pd.factorize(known["family_id"], sort=True)
    y, w = known["outcome"].to_numpy(), known["weight"].to_numpy()
    p, linear = known["win_probability"].to_numpy(), known["linear"].to_numpy()
    draws = draw_weights(len(families), REPLICATES, seed)[:, codes] * w
    rows = []
    # Ranks are compared within a fold: points of different folds stand on different scales.
    for name, column in (("auc", "points"), ("auc_accounts", "account_points"), ("auc_unrounded", "linear")):
        within = known.groupby("fold")[column].rank(method="average", pct=True).to_numpy()
        rows.append((name, *_with_interval(auc(within, y, w), auc(within, y, draws))))
    slope, error = _slope(linear, y, w, codes)
    rows.append(("slope", slope, slope - 1.96 * error, slope + 1.96 * error))
    with np.errstate(invalid="ignore"):
        rows.append(
            ("in_the_large", *_with_interval(np.average(y - p, weights=w), draws @ (y - p) / draws.sum(axis=1)))
        )
        rows.append(
            ("brier", *_with_interval(np.average((y - p) ** 2, weights=w), draws @ (y - p) ** 2 / draws.sum(axis=1)))
        )
        base = np.average(y, weights=w)
        rows.append(("brier_base", base * (1 - base), np.nan, np.nan))
    table = pd.DataFrame(rows, columns=["measure", "value", "low", "high"]).round(6)
    return table.assign(n=float(len(known)), won=float(y.sum()), unit="fraction", basis=basis)


def _with_interval(value: Any, draws: np.ndarray) -> tuple[float, float, float]:
    low, high = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(value), float(low), float(high)


def _slope(linear: np.ndarray, y: np.ndarray, w: np.ndarray, codes: np.ndarray) -> tuple[float, float]:
    """Calibration slope with its family-robust standard error."""
    design = np.column_stack([np.ones_like(linear), linear])
    beta = np.array([0.0, 1.0])
    for _ in range(40):
        mean = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        information = (design * (w * mean * (1 - mean))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(information, design.T @ (w * (y - mean)))
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-10:
            break
    pull = np.zeros((codes.max() + 1, 2))
    np.add.at(pull, codes, design * (w * (y - mean))[:, None])
    inverse = np.linalg.inv(information)
    return float(beta[1]), float(np.sqrt((inverse @ (pull.T @ pull) @ inverse)[1, 1]))


def _bins(known: pd.DataFrame, count: int = 5) -> pd.DataFrame:
    """Predicted and observed rate by fifths of the prediction, with 90 % bands of the observed rate under the prediction."""
    ranked = known.sort_values(["win_probability", "opportunity_id"], ignore_index=True)
    ranked = ranked.assign(bin=(np.arange(len(ranked)) * count // max(len(ranked), 1)) + 1)
    return pd.DataFrame(
        [{"bin": b, **_promise(ranked[ranked["bin"] == b])} for b in range(1, count + 1) if (ranked["bin"] == b).any()]
    )


def _promise(part: pd.DataFrame) -> dict[str, float]:
    """Predicted and observed rate of some opportunities, and the 90 % band in which the observed one should fall."""
    w = part["weight"].to_numpy() / part["weight"].sum()
    p = part["win_probability"].to_numpy()
    predicted, observed = float(w @ p), float(w @ part["outcome"].to_numpy())
    half = 1.6449 * float(np.sqrt((w**2 * p * (1 - p)).sum()))
    low, high = max(predicted - half, 0.0), min(predicted + half, 1.0)
    return {"n": float(len(part)), "predicted": predicted, "observed": observed, "low": low, "high": high}


def _nothing(training: Training, verdict: str, basis: str = "forward") -> ForwardCheck:
    """No check was possible."""
    columns: Sequence[str] = ("measure", "value", "low", "high", "n", "won", "unit", "basis")
    empty = pd.DataFrame({c: pd.Series([], dtype="float64") for c in columns})
    predictions = pd.DataFrame(
        {
            c: pd.Series([], dtype="float64")
            for c in ("fold", "period", "win_probability", "outcome", "weight", "linear")
        }
    )
    return ForwardCheck(
        predictions, empty, pd.DataFrame(), basis if training.dated else "cross_validation", verdict, 1.0
    )
