"""Reads the forward check, makes the comparison on the same folds: against chance, today's rule, boosting and a random split."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.stats.resample import draw_weights
from icplab.scores.forward import ForwardCheck, auc, best_share, family_folds, fit_accounts, folds_of
from icplab.scores.scorecard import build_card, points_of_rows
from icplab.scores.training import Training

REPLICATES = 500
# Names under which a CRM or a vendor keeps its own score or tier.
SCORE_NAMES = re.compile(
    r"(account|lead|icp|fit|customer|company|crm|sales|current|our|old)?_?(score|tier|grade|rating|rank|priority)(_?c)?"
    r"|hs_ideal_customer_profile|accountprofilescore6sense|accountprofilefit6sense|mk_customer_fit_(segment|score)",
    re.IGNORECASE,
)
# Words of ratings, best first; everything else is ordered as text, so that A stands above B and tier 1 above tier 2.
WORDS = ("very good", "hot", "high", "strong", "good", "warm", "medium", "moderate", "low", "weak", "cold", "poor")
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
COLUMNS = ("rule", "auc", "low", "high", "lift_20", "gain_over", "gain_low", "gain_high", "n")
BOOST_ROUNDS, BOOST_LEAVES, BOOST_MINIMUM = 150, 15, 30  # settings of the ceiling, small as the data are


def find_rule(accounts: pd.DataFrame, settings: Settings) -> str:
    """Column with today's score or tier: the one named in [workspace] score_column, else found by its name; "" for none."""
    named = settings.workspace.score_column
    if named:
        return named if named in accounts else ""
    return next((str(c) for c in accounts if SCORE_NAMES.fullmatch(str(c).strip().replace(" ", "_"))), "")


def rank_by_rule(values: pd.Series) -> pd.Series:
    """Today's score or tier as a number that rises with how good an account is said to be; unknown stands in the middle."""
    numbers = pd.to_numeric(values, errors="coerce")
    if values.notna().any() and numbers.notna().sum() == values.notna().sum():
        rank = numbers.astype("float64")
        # Tiers and ranks count from the best.
        rank = -rank if str(values.name or "").lower().endswith(("tier", "rank", "priority")) else rank
    else:
        text = values.astype("str").str.strip().str.lower()
        levels = sorted(text[values.notna()].unique())
        known = [w for w in WORDS if w in levels]
        order = known if set(known) == set(levels) else levels
        rank = -text.map({level: k for k, level in enumerate(order)}).astype("float64")
    return rank.fillna(rank.median()).fillna(0.0)


def compare_rules(
    training: Training, check: ForwardCheck, settings: Settings, seed: int, *, ceiling: bool = True
) -> pd.DataFrame:
    """AUC and lift of the card and its rivals on the same tested opportunities.

    Parameters
    ----------
    training, check : as fitted
    settings : reads [workspace] score_column
    seed : of the resampling of families
    ceiling : with boosting, refitted on the same folds

    Returns
    -------
    Estimate table, one row per rule (card, today's rule, boosting, random split): auc with 95 % interval (low, high), lift_20
    (win rate of the best fifth over the whole; ties share), gain_over and its interval (gain_low, gain_high: AUC of the
    card less the rule's, families resampled together), n, note. Empty without predictions.
    """
    known = check.predictions[check.predictions["weight"] > 0] if len(check.predictions) else check.predictions
    if known.empty:
        return pd.DataFrame(columns=[*COLUMNS, "note"])
    known = known.sort_values("opportunity_id", ignore_index=True)
    scores = {"card": known["account_points"].to_numpy("float64")}
    notes = {"card": "whole points of the account"}
    column = find_rule(training.accounts, settings)
    if column:
        rank = rank_by_rule(training.accounts.set_index("account_id")[column])
        scores["today's rule"] = known["account_id"].map(rank).to_numpy("float64")
        notes["today's rule"] = f"{column}, as it stands today"
    if ceiling:
        scores["boosting"] = _boosted(training, check, settings).reindex(known["opportunity_id"]).to_numpy("float64")
        notes["boosting"] = "gradient boosting on every candidate trait: how much a card could gain"
    table = _measure(known, scores, seed)
    rows = pd.DataFrame(_random_split(training) if training.dated else [])
    notes["random split"] = "opportunities of all times mixed: flatters, shown to expose the gap"
    table = pd.concat([table, rows], ignore_index=True)
    itself = table["rule"] == "card"
    table = table.assign(**{c: table[c].mask(itself) for c in ("gain_over", "gain_low", "gain_high")})
    return table.assign(note=table["rule"].map(notes))


def measure_gains(known: pd.DataFrame, worth: np.ndarray, seed: int) -> pd.DataFrame:
    """Gains of the card: share of wins and of value that the best so many accounts hold, with 95 % bands.

    Parameters
    ----------
    known : tested opportunities of the forward check with an outcome
    worth : of a win, per row; ones where no money is measured
    seed : of the resampling of families

    Returns
    -------
    One row per share and what (wins, value): worked (share of opportunities, best first within each fold), what, captured,
    low, high, random (what chance captures). Ties are worked together and share.
    """
    place = known.groupby("fold")["account_points"].rank(ascending=False, method="average", pct=True).to_numpy()
    codes, families = pd.factorize(known["family_id"], sort=True)
    w = known["weight"].to_numpy()
    draws = np.vstack([w, draw_weights(len(families), REPLICATES, seed)[:, codes] * w])
    rows = []
    for what, unit in (("wins", np.ones(len(known))), ("value", worth)):
        earned = draws * (known["outcome"].to_numpy() * unit)
        total = np.maximum(earned.sum(axis=1), 1e-12)
        for share in SHARES:
            captured = earned @ (place <= share + 1e-12) / total
            low, high = np.quantile(captured[1:], [0.025, 0.975])
            rows.append((share, what, captured[0], low, high, share))
    return pd.DataFrame(rows, columns=["worked", "what", "captured", "low", "high", "random"])


def _measure(known: pd.DataFrame, scores: dict[str, np.ndarray], seed: int) -> pd.DataFrame:
    codes, families = pd.factorize(known["family_id"], sort=True)
    y, w, fold = (known[c].to_numpy() for c in ("outcome", "weight", "fold"))
    draws = draw_weights(len(families), REPLICATES, seed)[:, codes] * w
    own, own_draws = auc(scores["card"], y, w, fold), auc(scores["card"], y, draws, fold)
    rows = []
    for name, score in scores.items():
        value, drawn = auc(score, y, w, fold), auc(score, y, draws, fold)
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        gain_low, gain_high = np.nanquantile(own_draws - drawn, [0.025, 0.975])
        rows.append(
            (name, value, low, high, _lift(score, y, w, fold), own - value, gain_low, gain_high, float(len(known)))
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _lift(score: np.ndarray, y: np.ndarray, w: np.ndarray, fold: np.ndarray, share: float = 0.2) -> float:
    """Win rate of the best fifth over the whole, folds ranked on their own; rows tied at the border count in part."""
    inside = best_share(score, w, fold, share)
    rate = np.average(y, weights=w)
    return float((inside * w * y).sum() / max((inside * w).sum(), 1e-12) / rate) if rate else np.nan


def _boosted(training: Training, check: ForwardCheck, settings: Settings) -> pd.Series:
    """Score per tested opportunity by boosting, refitted on the folds of the check."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    blocks = [b for b in training.blocks if b.item.table == "accounts"]
    every = [_plain(b.weights) for b in (*training.forced, *blocks)] if blocks else []
    codes = np.column_stack([np.empty((len(training.opportunities), 0)), *every])
    found: dict[str, float] = {}
    for split, train, test, _ in folds_of(training, settings):
        y, w = training.labels(split)
        w = np.where(train, w, 0.0)
        inputs = _varying(codes, w > 0)
        if not len(inputs) or len(np.unique(y[w > 0])) < 2:
            continue
        model = HistGradientBoostingClassifier(
            max_iter=BOOST_ROUNDS, learning_rate=0.05, max_leaf_nodes=BOOST_LEAVES, min_samples_leaf=BOOST_MINIMUM,
            l2_regularization=5.0, early_stopping=False, random_state=0,
        )  # fmt: skip
        model.fit(codes[w > 0][:, inputs], y[w > 0], sample_weight=w[w > 0])
        ids = training.opportunities.loc[test, "opportunity_id"]
        found |= dict(zip(ids, model.predict_proba(codes[test][:, inputs])[:, 1], strict=True))
    return pd.Series(found, dtype="float64")


def _varying(codes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Columns with at least two known values among the rows: the others have nothing to split on."""
    part = codes[rows]
    known = ~np.isnan(part)
    low = np.where(known, part, np.inf).min(axis=0, initial=np.inf)
    high = np.where(known, part, -np.inf).max(axis=0, initial=-np.inf)
    return np.flatnonzero(low < high)


def _plain(weights: np.ndarray) -> np.ndarray:
    """Level codes as numbers (unknown is missing), memberships as they are."""
    if weights.ndim == 2:
        return weights
    return np.where(weights < 0, np.nan, weights).astype("float64")[:, None]


def _random_split(training: Training) -> list[dict[str, object]]:
    """AUC of the same card on opportunities left out at random by family, past and future mixed; none of one family."""
    y, w = training.labels()
    _, train, test, _ = family_folds(training)[0]
    rows = training.opportunities.index[test & (w > 0)]
    if not len(rows) or not (train & (w > 0)).any():
        return []
    fitted = fit_accounts(training, y, np.where(train, w, 0.0))
    points = points_of_rows(*build_card(fitted), fitted)
    value = float(auc(points[rows], y[rows], w[rows]))
    lift = _lift(points[rows], y[rows], w[rows], np.zeros(len(rows)))
    return [{"rule": "random split", "auc": value, "lift_20": lift, "n": float(len(rows))}]
