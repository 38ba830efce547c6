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
from icplab.scores.level import measure_level
from icplab.scores.sample import enough, measure_sample
from icplab.scores.scorecard import build_card, opportunity_effects, points_of_rows
from icplab.scores.training import Training, label_outcomes

# With fewer wins a forward check cannot tell a model from chance: in simulated markets with 55 to 104 wins its interval held
# 0.5 in 7 of 8, and the model that passed, with 89 wins, had half of the oracle's gain. Lost: the floor vendors use.
MIN_WON, MIN_LOST = 100, 40
MIN_TEST_WON = 10  # wins of the test period below which its AUC says nothing
FOLDS = 5  # of the cross-validation where there are no dates
REPLICATES = 500  # resamples of families behind the interval of the AUC
SLOPE_SD_WINS = 30.0  # over the number of wins: how far from 1 the slope of a shrunken model is expected (.03 at 1,000)
SLOPE_PROOF = 3.1  # standard errors: two in a thousand, as the alarm of the level
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
    measures : estimate table: measure, value, low, high, n, won, unit, basis. Measures: auc (of the card of opportunities),
        auc_accounts (of the card of accounts, on which the verdict rests), auc_unrounded, slope, in_the_large, brier,
        brier_base (of the base rate)
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
    folds = folds_of(training, settings)
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
    low = float(measures.loc[measures["measure"] == "auc_accounts", "low"].iloc[0])
    table = measures.set_index("measure")
    slope, below, above = (float(table[c].loc["slope"]) for c in ("value", "low", "high"))
    shrink = shrunken_slope(slope, max((above - below) / (2 * 1.96), 1e-3), int(((y > 0) & (w > 0)).sum()))
    verdict = "usable" if low > 0.5 else _failed(training)
    return ForwardCheck(predictions, measures, _bins(known), basis, verdict, shrink)


def shrunken_slope(slope: float, error: float, wins: int) -> float:
    """Factor for the calibration: the slope of the check as far as it is to be believed, between 0.5 and 1.2.

    A shrunken model is expected near 1, the nearer the more wins it has; a slope that lies SLOPE_PROOF standard errors away
    says that what told accounts apart no longer does so, and is taken but for its own uncertainty.
    """
    expected = SLOPE_SD_WINS / max(wins, 1)
    trust = expected**2 / (expected**2 + error**2)
    if abs(slope - 1) > SLOPE_PROOF * error:
        trust = max(trust, 1 - (error / (slope - 1)) ** 2)
    return float(np.clip(1 + trust * (slope - 1), 0.5, 1.2))


# How the figures of the check are called on a page.
MEASURED = {
    "auc": "pairs in order, card of opportunities",
    "auc_accounts": "pairs in order, card of accounts",
    "auc_unrounded": "pairs in order, before points are rounded",
    "slope": "calibration slope (1 is right)",
    "in_the_large": "won less predicted, mean",
    "brier": "Brier score",
    "brier_base": "Brier score of the base rate for all",
}


def describe_check(check: ForwardCheck) -> pd.DataFrame:
    """The figures of the check in words: figure, value, low, high, n, won, basis."""
    shown = check.measures.assign(figure=check.measures["measure"].map(MEASURED).astype("str"))
    shown["basis"] = shown["basis"].astype("str").str.replace("_", "-")
    return shown[["figure", "value", "low", "high", "n", "won", "basis"]]


def _failed(training: Training) -> str:
    """What a ranking that could not be told from chance means: nothing, below the size at which one could have shown."""
    return "no-usable-ranking" if enough(measure_sample(training)) else "insufficient-evidence"


def auc(score: np.ndarray, outcome: np.ndarray, weight: np.ndarray, fold: np.ndarray | None = None) -> np.ndarray:
    """Weighted probability that a won opportunity scores above a lost one of the same fold, ties half.

    Pairs of different folds are not compared: their points stand on different scales, and recent folds hold more quick wins.
    `weight` of shape (replicates, rows) gives one figure per replicate.
    """
    w = np.atleast_2d(weight)
    folds = np.zeros(len(score), dtype=int) if fold is None else fold
    above, pairs = np.zeros(len(w)), np.zeros(len(w))
    for rows in (np.flatnonzero(folds == k) for k in np.unique(folds)):
        order = rows[np.argsort(score[rows], kind="stable")]
        starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf) != 0)
        won = np.add.reduceat(w[:, order] * outcome[order], starts, axis=1)
        lost = np.add.reduceat(w[:, order] * (1 - outcome[order]), starts, axis=1)
        above += (won * (np.cumsum(lost, axis=1) - lost / 2)).sum(axis=1)
        pairs += won.sum(axis=1) * lost.sum(axis=1)
    with np.errstate(invalid="ignore"):
        area = above / pairs
    return area if np.ndim(weight) > 1 else area[0]


def best_share(score: np.ndarray, weight: np.ndarray, fold: np.ndarray, share: float) -> np.ndarray:
    """How far each row is inside the best `share` of its fold (0 to 1); rows tied at the border share what is left."""
    inside = np.zeros(len(score))
    for k in np.unique(fold):
        rows = np.flatnonzero(fold == k)
        at, group = np.unique(-score[rows], return_inverse=True)
        size = np.bincount(group, weight[rows], len(at))
        before = np.cumsum(size) - size
        inside[rows] = np.clip((share * size.sum() - before) / np.maximum(size, 1e-12), 0, 1)[group]
    return inside


def folds_of(training: Training, settings: Settings) -> list[Fold]:
    """The folds of the check: by date, or by family where there are no dates."""
    return dated_folds(training, settings) if training.dated else family_folds(training)


def dated_folds(training: Training, settings: Settings) -> list[Fold]:
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


def family_folds(training: Training) -> list[Fold]:
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
    fitted = fit_accounts(training, y, w)
    opened = fit_opportunities(training, y, w, fitted)
    rows = training.opportunities.loc[test, ["opportunity_id", "account_id", "family_id", "motion"]]
    alone = _of_account(fitted)
    until = training.as_of if split is None else split
    level = measure_level(
        alone[train], training.opportunities[train], until, training.horizon_days, training.dated and split is not None
    ).shift
    return rows.assign(
        fold=fold,
        period=period,
        linear=_without_owner(opened)[test] + level,
        points=points_of_rows(*build_card(opened, opportunity=True), opened)[test],
        account_points=points_of_rows(*build_card(fitted), fitted)[test],
        account_probability=1 / (1 + np.exp(-alone[test] - level)),
    )


def fit_accounts(training: Training, outcome: np.ndarray, weight: np.ndarray) -> Fitted:
    """The card of accounts: account traits only, source and motion held equal.

    Other traits of the opportunity are not held equal: nobody knows them before an opportunity is opened, and what an
    account trait is worth through them belongs to it.
    """
    rows = training.opportunities["family_id"].to_numpy()
    candidates = [b for b in training.blocks if b.item.table == "accounts"]
    return fit_inputs(outcome, weight, training.forced, candidates, list(training.nuisance.values()), rows)


def fit_opportunities(training: Training, outcome: np.ndarray, weight: np.ndarray, accounts: Fitted) -> Fitted:
    """The card of opportunities: that of accounts, and the traits of the opportunity that add to it."""
    candidates = [b for b in training.blocks if b.item.table == "opportunities"]
    if not candidates:
        return accounts
    rows = training.opportunities["family_id"].to_numpy()
    forced = [*accounts.blocks, *(b for b in training.forced if b not in accounts.blocks)]
    return fit_inputs(outcome, weight, forced, candidates, list(training.nuisance.values()), rows)


def _without_owner(fitted: Fitted) -> np.ndarray:
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
    fold = known["fold"].to_numpy()
    for name, column in (("auc", "points"), ("auc_accounts", "account_points"), ("auc_unrounded", "linear")):
        score = known[column].to_numpy("float64")
        rows.append((name, *_with_interval(auc(score, y, w, fold), auc(score, y, draws, fold))))
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
