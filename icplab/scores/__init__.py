"""Reads account table, opportunities and segments, makes the frozen scorecard and a score for every account.

The parts: `training` (labels, weights, candidate inputs), `fit` (selection and shrinkage), `scorecard` (points, calibration,
value), `forward` (check on later opportunities), `level` (whether today's is another), `rivals` (today's rule, boosting,
random split on the same folds), `champion` (the card in force against the new one), `sample` (the sample-size gate), `intent` (its half-life, its scores), `reliability` (are probabilities right). Scoring itself is `core.model.apply_model`.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from icplab.core import formats as fmt
from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.core.model import Model, add_segments, apply_model, opportunity_points, value_of, win_probability
from icplab.scores.champion import Contest, champion_findings, read_champion, settle_champion
from icplab.scores.fit import Fitted
from icplab.scores.forward import (
    MIN_LOST,
    MIN_WON,
    SLOPE_PROOF,
    ForwardCheck,
    check_forward,
    describe_check,
    fit_accounts,
    fit_opportunities,
)
from icplab.scores.intent import DEFAULT_HALF_LIFE, HALF_LIVES, HalfLife, busy_level, choose_half_life, intent_scores
from icplab.scores.level import RECENT_DAYS, Level, measure_level
from icplab.scores.reliability import decompose_brier, explain_brier, measure_reliability
from icplab.scores.rivals import compare_rules, find_rule, measure_gains
from icplab.scores.sample import measure_sample, sample_findings
from icplab.scores.scorecard import (
    account_draws,
    build_card,
    calibrate,
    describe_support,
    fit_value,
    opportunity_effects,
    points_of_rows,
)
from icplab.scores.training import Training, build_training, quarantined_traits

__all__ = [
    "HALF_LIVES",
    "Contest",
    "ForwardCheck",
    "HalfLife",
    "Training",
    "build_training",
    "champion_findings",
    "check_forward",
    "choose_half_life",
    "compare_rules",
    "decompose_brier",
    "describe_check",
    "explain_brier",
    "find_rule",
    "findings",
    "fit_model",
    "measure_gains",
    "measure_reliability",
    "measure_sample",
    "quarantined_traits",
    "read_champion",
    "sample_findings",
    "score_accounts",
    "score_opportunities",
    "settle_champion",
]

STEP = "50_tiers"
PERIOD_SD = 0.10  # log odds by which a whole period may be better or worse for everybody, without anything being wrong
CALIBRATION_ALARM = 0.002  # p-value below which the promise of the forward folds counts as broken


def fit_model(
    training: Training,
    check: ForwardCheck,
    settings: Settings,
    subscriptions: pd.DataFrame,
    *,
    activities: pd.DataFrame | None = None,
    segments: dict | None = None,
    half_life: int = DEFAULT_HALF_LIFE,
) -> Model:
    """The frozen scorecard, without tier cut points (the tiers stage adds them).

    Parameters
    ----------
    training : see `build_training`
    check : its verdict decides whether there is a ranking at all, its slope calibrates
    settings : reads [economics], [plan], [workspace] currency
    subscriptions : canonical table; how long customers stay, per segment. May be empty
    activities : canonical table; sets the scale of the intent score, so that later runs can be compared
    half_life : of a signal, in days (`choose_half_life`); `activities` are summed by the same one where they are summed
    segments : assigner of the segments stage, stored for scoring new accounts

    Returns
    -------
    Model
        With verdict `no-usable-ranking` or `insufficient-evidence` it holds the base rate and the value model only.
    """
    outcome, weight = training.labels()
    base_rate = round(float(np.average(outcome, weights=weight)), 6) if weight.sum() else None
    value, value_draws = fit_value(training, subscriptions, settings)
    model = Model(
        as_of=f"{training.as_of:%Y-%m-%d}",
        tool=version("icplab"),
        settings=settings.plan_hash(),
        horizon_days=training.horizon_days,
        currency=settings.workspace.currency,
        verdict=check.verdict,
        base_rate=base_rate,
        value=value,
        intent_half=busy_level(activities, training.as_of, half_life),
        intent_days=half_life,
        segments=segments or {},
        checks=_checks(check),
    )
    if check.verdict != "usable":
        return replace(model, draws={"value": _plain(value_draws)})
    fitted = fit_accounts(training, outcome, weight)
    base, inputs = build_card(fitted)
    points = points_of_rows(base, inputs, fitted)
    rest = fitted.nuisance + opportunity_effects(fitted)
    a, b = calibrate(points, rest, outcome, weight, check.slope)
    level = measure_level(a + b * points, training.opportunities, training.as_of, training.horizon_days, training.dated)
    card = _opportunity_card(training, outcome, weight, fitted, check.slope)
    return replace(
        model,
        base_rate=_moved(base_rate, level),
        base_points=base,
        inputs=inputs,
        calibration=(round(a + level.shift, 6), b),
        support=describe_support(training.accounts, inputs),
        draws={"points": _plain(account_draws(fitted, inputs)), "value": _plain(value_draws)},
        checks={
            **model.checks,
            "level_se": _level_error(training, outcome, weight, level),
            "level_shift": level.shift,
        },
        **{**card, "opportunity_calibration": _at_level(card["opportunity_calibration"], level)},
    )


def score_accounts(
    model: Model,
    accounts: pd.DataFrame,
    account_segments: pd.DataFrame,
    activities: pd.DataFrame,
    as_of: pd.Timestamp,
) -> pd.DataFrame:
    """Every account scored: the artefact `scores`, tiers still by the cut points the model has (none: insufficient).

    Fit and intent are separate axes: intent_score comes from activities alone, halves every
    `model.intent_days`, and is null where the workspace has no activities.
    """
    scored = apply_model(model, add_segments(accounts, account_segments))
    return scored.assign(
        intent_score=intent_scores(scored["account_id"], activities, as_of, model.intent_half, model.intent_days)
    )


def score_opportunities(
    model: Model, opportunities: pd.DataFrame, scored: pd.DataFrame, training: Training
) -> pd.DataFrame:
    """The artefact `opportunity_scores`: every open opportunity with an account, as at its creation.

    Source and traits of the opportunity count here, which they do not for an account.
    """
    rows = opportunities[(opportunities["status"] == "open") & opportunities["account_id"].isin(scored["account_id"])]
    rows = rows.sort_values("opportunity_id", ignore_index=True)
    market = training.accounts.set_index("account_id").loc[rows["account_id"]].reset_index()
    # As at its creation: the motion of this opportunity, not of the account's next one.
    own = market.assign(motion=rows["motion"])
    points = opportunity_points(model, rows, own)
    probability = win_probability(model, points, opportunity=True)
    value = value_of(model.value, own)
    return pd.DataFrame(
        {
            "opportunity_id": rows["opportunity_id"],
            "account_id": rows["account_id"],
            "win_probability": np.round(probability, 6),
            "expected_value": np.round(probability * value, 2),
        }
    )


def findings(check: ForwardCheck, model: Model) -> list[Finding]:
    """What the forward check says: whether likelihood to win can be ranked, and whether its numbers can be trusted."""
    if check.verdict == "insufficient-evidence":
        return [_too_little(model)]
    measure = check.measures.set_index("measure")
    found = [_ranking(check, measure)]
    if check.verdict == "usable":
        found += [_calibration(check, measure), *_level(model)]
    return found


def _figures(measure: pd.DataFrame, name: str) -> dict[str, float]:
    """One row of the measures as plain numbers."""
    return {c: float(measure[c].loc[name]) for c in ("value", "low", "high", "n", "won")}


def _too_little(model: Model) -> Finding:
    return Finding(
        "insufficient-evidence",
        STEP,
        "watch",
        "tiers",
        f"There are too few opportunities for a model: at least {MIN_WON} won and {MIN_LOST} lost are needed, and below the "
        "size that the sample-size rule asks for, proof that it ranks later ones. No tier is measured.",
        {"minimum_won": MIN_WON, "minimum_lost": MIN_LOST, "base_rate": model.base_rate},
        action="Use the profiles of the ICP step as judgement, and come back with more closed opportunities.",
    )


def _ranking(check: ForwardCheck, measure: pd.DataFrame) -> Finding:
    auc = _figures(measure, "auc_accounts")
    how = (
        "opportunities opened later"
        if check.basis == "forward"
        else "left-out accounts (no dates, so not a forward test)"
    )
    numbers = {k: round(auc[k], 3) for k in ("value", "low", "high", "n", "won")}
    shown = fmt.estimate(auc["value"], auc["low"], auc["high"], "fraction")
    sentence = f"On {auc['n']:,.0f} {how}, the score puts a won one above a lost one in {shown} of pairs"
    if check.verdict == "usable":
        return Finding("tier-promise", STEP, "info", "ranking", sentence + ": it ranks better than chance.", numbers)
    return Finding(
        "no-usable-ranking",
        STEP,
        "watch",
        "ranking",
        sentence + f": that includes 50{fmt.THIN}%, which is chance. No tier is given by likelihood to win.",
        numbers,
        action="Do not route by tier. Look for traits that are not exported yet, or rank by value alone.",
    )


def _calibration(check: ForwardCheck, measure: pd.DataFrame) -> Finding:
    """Information unless the promise is clearly broken in the large."""
    from scipy.special import ndtr

    gap, slope = _figures(measure, "in_the_large"), _figures(measure, "slope")
    rate = float(check.predictions["win_probability"].mean())
    error = float(np.hypot((gap["high"] - gap["low"]) / (2 * 1.96), PERIOD_SD * rate * (1 - rate))) or 1e-9
    p_value = float(2 * ndtr(-abs(gap["value"]) / error))
    numbers = {
        "gap_points": round(100 * gap["value"], 2),
        "slope": round(slope["value"], 3),
        "slope_low": round(slope["low"], 3),
        "slope_high": round(slope["high"], 3),
        "p_value": round(p_value, 4),
    }
    sentence = (
        f"Of the tested opportunities {abs(100 * gap['value']):.1f} points {'more' if gap['value'] > 0 else 'less'} were won than "
        "predicted; "
        f"the calibration slope is {slope['value']:.2f} ({slope['low']:.2f} to {slope['high']:.2f}, 1 is right)."
    )
    if check.basis == "forward" and abs(slope["value"] - 1) > SLOPE_PROOF * (slope["high"] - slope["low"]) / (2 * 1.96):
        told = "too far apart" if slope["value"] < 1 else "too close together"
        sentence += f" More than chance would do: probabilities were {told}, and are drawn to what the check found."
        action = "Look at which traits told won from lost earlier and no longer do, before staffing to the top tier."
        return Finding("calibration", STEP, "watch", "probabilities", sentence, numbers, action=action)
    if p_value >= CALIBRATION_ALARM or check.basis != "forward":
        return Finding("calibration", STEP, "info", "probabilities", sentence, numbers)
    return Finding(
        "calibration",
        STEP,
        "watch",
        "probabilities",
        sentence + " More than chance would do: the level of winning has moved.",
        numbers,
        action="Look at what changed (mix, prices, definitions) before using the probabilities in a forecast.",
    )


def _opportunity_card(
    training: Training, outcome: np.ndarray, weight: np.ndarray, accounts: Fitted, slope: float
) -> dict[str, Any]:
    """Fields of the model that score an opportunity on the day it is opened."""
    fitted = fit_opportunities(training, outcome, weight, accounts)
    base, inputs = build_card(fitted, opportunity=True)
    points = points_of_rows(base, inputs, fitted)
    return {
        "opportunity_base": base,
        "opportunity_inputs": inputs,
        "opportunity_calibration": calibrate(points, fitted.nuisance, outcome, weight, slope),
    }


def _at_level(calibration: tuple[float, float], level: Level) -> tuple[float, float]:
    return round(calibration[0] + level.shift, 6), calibration[1]


def _moved(rate: float | None, level: Level) -> float | None:
    """A rate at today's level."""
    if rate is None or not 0 < rate < 1 or not level.shift:
        return rate
    return round(float(1 / (1 + (1 - rate) / rate * np.exp(-level.shift))), 6)


def _level_error(training: Training, outcome: np.ndarray, weight: np.ndarray, level: Level) -> float:
    """Standard error of the overall win rate, with whole families as units; and of today's level, where it has moved."""
    rate = float(np.average(outcome, weights=weight))
    sums = pd.Series(weight * (outcome - rate)).groupby(training.opportunities["family_id"].to_numpy()).sum()
    error = float(np.sqrt((sums**2).sum()) / weight.sum())
    return round(float(np.hypot(error, level.error * rate * (1 - rate))), 6)


def _level(model: Model) -> list[Finding]:
    """Said where today's level is not that of the whole history."""
    shift = float(model.checks.get("level_shift", 0.0))
    if not shift or not model.base_rate:
        return []
    today = model.base_rate
    history = float(1 / (1 + (1 - today) / today * np.exp(shift)))
    sentence = (
        f"Opportunities opened in the last {RECENT_DAYS} days are won {'more' if shift > 0 else 'less'} often than the whole history "
        f"says, beyond chance: probabilities are those of today's level, {fmt.percent(today)} on average instead of {fmt.percent(history)}."
    )
    numbers = {"days": RECENT_DAYS, "today": round(today, 4), "history": round(history, 4)}
    action = "Look at what changed (mix, prices, definitions); the order of accounts rests on the whole history."
    return [Finding("calibration", STEP, "watch", "level", sentence, numbers, action=action)]


def _checks(check: ForwardCheck) -> dict[str, float | str]:
    """Figures of the forward check that travel with the model."""
    measures = {
        f"{r.measure}_{c}": getattr(r, c) for r in check.measures.itertuples() for c in ("value", "low", "high")
    }
    return {"basis": check.basis, **{k: round(float(v), 4) for k, v in measures.items() if np.isfinite(v)}}


def _plain(draws: np.ndarray) -> list:
    return np.round(draws, 4).tolist()
