"""Reads a model and accounts, makes the artefact `scores`: probability, value, tier, confidence and reasons of each."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from icplab.core.model.card import MISSING, OUT_OF_MARKET, RANKED, UNSEEN, Model
from icplab.core.model.levels import level_codes, level_of, points_of
from icplab.core.model.worth import account_points, expected_value_draws, value_of, win_probability

INCOMPLETE_SHARE = 0.5  # flag accounts that lack more than this share of the inputs
CHUNK = 20_000  # accounts per block when every draw of the uncertainty is looked at


def apply_model(model: Model, accounts: pd.DataFrame) -> pd.DataFrame:
    """Score accounts with a frozen model.

    Parameters
    ----------
    model : as fitted, or read from model.json
    accounts : account table with segments (`add_segments`): account_id, segment_id, motion, is_customer, account_type,
        n_opportunities and the traits the model asks for. A trait that is not there counts as unknown.

    Returns
    -------
    DataFrame, one row per account in the order given: the artefact `scores` without intent. `points` is the total of the
    card. Where the model found no usable ranking, win_probability is the base rate and every tier is `insufficient`.
    """
    accounts = accounts.reset_index(drop=True)
    points = account_points(model, accounts)
    probability = win_probability(model, points)
    value = value_of(model.value, accounts)
    scored = pd.DataFrame(
        {
            "account_id": accounts["account_id"],
            "segment_id": accounts["segment_id"].fillna("unassigned"),
            "motion": accounts["motion"],
            "points": points,
            "fit_score": _fit_score(model, accounts, points),
            "win_probability": np.round(probability, 6),
            "expected_value": np.round(probability * value, 2),
            "value_basis": model.value.basis,
            "flags": _flags(model, accounts),
            "reasons": _reasons(model, accounts),
        }
    )
    return place_accounts(model, accounts, scored)


def place_accounts(model: Model, accounts: pd.DataFrame, scored: pd.DataFrame) -> pd.DataFrame:
    """`scored` with tier, tier_confidence and icp by the cut points the model has; rows as in `accounts`."""
    accounts = accounts.reset_index(drop=True)
    out_of_market = accounts["account_type"].isin(OUT_OF_MARKET).to_numpy()
    unassigned = (accounts["segment_id"].isna() | (accounts["segment_id"] == "unassigned")).to_numpy()
    measured = model.value.basis != "not_measured"
    # Without any amounts accounts can still be ordered by likelihood; the basis says so.
    order = scored["expected_value" if measured else "win_probability"].to_numpy("float64")
    placed = scored.assign(tier=_tier(model, order, out_of_market, unassigned).set_axis(scored.index))
    placed["tier_confidence"] = _tier_confidence(model, accounts, placed["tier"].reset_index(drop=True))
    placed["icp"] = _icp(model, placed, out_of_market)
    return placed


def _fit_score(model: Model, accounts: pd.DataFrame, points: np.ndarray) -> np.ndarray:
    """Points of slow traits as a share of the best possible total, 0-100; motion is not fit."""
    if not model.usable:
        return np.full(len(accounts), np.nan)
    motion = sum((points_of(i, accounts) for i in model.inputs if i.trait == "motion"), np.zeros(len(accounts)))
    best = max(model.best_points, 1)
    return np.round(np.clip(100 * (points - motion) / best, 0, 100), 1)


def _flags(model: Model, accounts: pd.DataFrame) -> pd.Series:
    """unknown_fit (unworked and outside the range of worked accounts), incomplete, unseen_level."""
    codes = [level_codes(i, accounts) for i in model.inputs if i.kind != "posterior"]
    lacking = np.mean([c == MISSING for c in codes], axis=0) if codes else np.zeros(len(accounts))
    unseen = np.any([c == UNSEEN for c in codes], axis=0) if codes else np.zeros(len(accounts), bool)
    unworked = (accounts["n_opportunities"].fillna(0) == 0).to_numpy()
    outside = np.zeros(len(accounts), bool)
    for item in model.support:
        codes_ = level_codes(item, accounts)
        # A number is cut into below, inside and above the range seen; categories are outside when never seen.
        outside |= np.isin(codes_, (0, 2)) if item.kind == "number" else codes_ == UNSEEN
    flags = pd.Series("", index=accounts.index, dtype="str")
    for name, rows in (
        ("unknown_fit", unworked & outside),
        ("incomplete", lacking > INCOMPLETE_SHARE),
        ("unseen_level", unseen),
    ):
        flags = flags.where(~rows, flags + ";" + name)
    return flags.str.lstrip(";")


def _reasons(model: Model, accounts: pd.DataFrame) -> pd.Series:
    """JSON list per account: base first, then every input; the points sum to the total."""
    text = pd.Series(
        "[" + json.dumps({"trait": "base", "level": "", "points": model.base_points}), index=accounts.index
    )
    for item in model.inputs:
        levels, names = pd.factorize(level_of(item, accounts))
        points, lowest = points_of(item, accounts), int(points_of(item, accounts).min(initial=0))
        # Few distinct rows per input: render each once, then look it up.
        wide = len(names)
        distinct, place = np.unique((points - lowest) * wide + levels, return_inverse=True)
        lines = [
            ", "
            + json.dumps(
                {"trait": item.name, "level": str(names[k % wide]), "points": int(k // wide) + lowest},
                ensure_ascii=False,
            )
            for k in distinct
        ]
        text = text + pd.Series(np.array(lines, dtype=object)[place], index=accounts.index, dtype="str")
    return (text + "]").astype("str")


def _tier(model: Model, expected: np.ndarray, out_of_market: np.ndarray, unassigned: np.ndarray) -> pd.Series:
    """Tier by the frozen cut points; expected values below all of them are below break-even."""
    tier = np.full(len(expected), "insufficient", dtype=object)
    if model.usable and model.cuts:
        tier[:] = "not_icp"
        for name in reversed([t for t in RANKED if t in model.cuts]):
            tier[expected >= model.cuts[name]] = name
        tier[unassigned] = "insufficient"
    tier[out_of_market] = "not_icp"
    return pd.Series(tier, dtype="str")


def _tier_confidence(model: Model, accounts: pd.DataFrame, tier: pd.Series) -> np.ndarray:
    """Share of the draws that put an account into the tier it has; null where it is in none by rank."""
    confidence = np.full(len(accounts), np.nan)
    ranked = [t for t in RANKED if t in model.cuts]
    placed = np.flatnonzero(tier.isin([*ranked, "not_icp"]) & ~accounts["account_type"].isin(OUT_OF_MARKET))
    if not (model.usable and ranked and model.draws.get("cuts")):
        return confidence
    cuts = np.asarray(model.draws["cuts"])  # ranked tiers × draws, falling
    own = tier.map({t: k for k, t in enumerate([*ranked, "not_icp"])}).to_numpy()
    for start in range(0, len(placed), CHUNK):
        rows = placed[start : start + CHUNK]
        values = expected_value_draws(model, accounts.iloc[rows])
        below = (values[:, None, :] < cuts[None, :, :]).sum(axis=1)
        confidence[rows] = (below == own[rows, None].astype("int64")).mean(axis=1)
    return np.round(confidence, 3)


def _icp(model: Model, scored: pd.DataFrame, out_of_market: np.ndarray) -> pd.Series:
    """yes: wins at least as likely as average; unknown: no tier, or nothing like it was ever worked."""
    unknown = (scored["tier"] == "insufficient") | scored["flags"].str.contains("unknown_fit|incomplete", regex=True)
    fits = scored["win_probability"] >= (model.base_rate or 0.0)
    icp = np.where(
        out_of_market | (scored["tier"] == "not_icp"), "no", np.where(unknown, "unknown", np.where(fits, "yes", "no"))
    )
    return pd.Series(icp, index=scored.index, dtype="str")
