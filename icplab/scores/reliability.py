"""Reads predictions and outcomes, makes the reliability diagram with its consistency band, and the Brier score taken apart.

Dimitriadis, Gneiting and Jordan 2021 (PNAS 118): the recalibrated probability is the isotonic regression of the outcome on the
prediction, so there are no bins to choose.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.scores.forward import ForwardCheck

BANDS = 200  # resamples behind a consistency band
LEVEL = 0.90
MEANINGS = {
    "uncertainty": "of an outcome nobody ranks: what the base rate alone would score",
    "discrimination": "taken off by telling accounts apart; more is better",
    "miscalibration": "added by probabilities that are off; less is better",
    "brier": "uncertainty less discrimination plus miscalibration: mean squared error",
}


def isotonic(rate: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Isotonic means of groups in rising order of the prediction; works on the last axis, all replicates at once.

    By the max-min formula over sums: no loop over replicates, and groups are few because predictions are whole points.
    """
    w = np.broadcast_to(weight, rate.shape)
    hits = np.concatenate([np.zeros((*rate.shape[:-1], 1)), np.cumsum(rate * w, axis=-1)], axis=-1)
    mass = np.concatenate([np.zeros((*rate.shape[:-1], 1)), np.cumsum(w, axis=-1)], axis=-1)
    g = rate.shape[-1]
    best = np.full(rate.shape, -np.inf)
    for start in range(g):  # over groups, not rows
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (hits[..., start + 1 :] - hits[..., start, None]) / (mass[..., start + 1 :] - mass[..., start, None])
        mean = np.where(np.isfinite(mean), mean, np.inf)
        least = np.minimum.accumulate(mean[..., ::-1], axis=-1)[..., ::-1]
        best[..., start:] = np.maximum(best[..., start:], least)
    return best


def measure_reliability(check: ForwardCheck, seed: int, bands: int = BANDS) -> pd.DataFrame:
    """The reliability diagram of a forward check (`reliability_curve`); empty where nothing was tested."""
    tested = check.predictions[check.predictions["weight"] > 0] if len(check.predictions) else check.predictions
    if tested.empty:
        return pd.DataFrame()
    given = [tested[c].to_numpy("float64") for c in ("win_probability", "outcome", "weight")]
    return reliability_curve(given[0], given[1], given[2], seed, bands)


def reliability_curve(
    probability: np.ndarray, outcome: np.ndarray, weight: np.ndarray, seed: int, bands: int = BANDS
) -> pd.DataFrame:
    """The reliability diagram: one row per distinct prediction (to three digits).

    Parameters
    ----------
    probability, outcome, weight : of the tested opportunities; weights of censoring
    seed : of the consistency band
    bands : resamples

    Returns
    -------
    DataFrame
        predicted, observed (isotonic), low and high (90 % of what would be observed if predictions were right), n (weight).
    """
    at, group = np.unique(np.round(probability, 3), return_inverse=True)
    mass = np.bincount(group, weight)
    keep = mass > 0
    hits = np.bincount(group, weight * outcome)
    rate = isotonic((hits / np.where(keep, mass, 1.0))[keep], mass[keep])
    # The luck of weighted rows is that of fewer whole ones: sum squared over sum of squares, per group.
    whole = np.bincount(group, weight)[keep] ** 2 / np.bincount(group, weight**2)[keep]
    generator = np.random.Generator(np.random.PCG64(seed))
    trials = np.maximum(np.rint(whole).astype("int64"), 1)
    drawn = generator.binomial(trials, at[keep], (bands, int(keep.sum()))) / trials
    low, high = np.quantile(isotonic(drawn, mass[keep]), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return pd.DataFrame({"predicted": at[keep], "observed": rate, "low": low, "high": high, "n": mass[keep]})


def decompose_brier(probability: np.ndarray, outcome: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """Brier score = miscalibration − discrimination + uncertainty; the first two by isotonic recalibration."""
    order = np.argsort(probability, kind="stable")
    at, group = np.unique(probability[order], return_inverse=True)
    w, y = weight[order], outcome[order]
    mass = np.bincount(group, w)
    with np.errstate(invalid="ignore"):
        rate = np.where(mass > 0, np.bincount(group, w * y) / mass, 0.0)
    fitted = _pool(rate, mass)[group]
    total, base = float(w.sum()), float(np.average(y, weights=w))

    def brier(p: np.ndarray | float) -> float:
        return float((w * (y - p) ** 2).sum() / total)

    score, recalibrated, uncertainty = brier(at[group]), brier(fitted), brier(base)
    parts = {"brier": score, "miscalibration": score - recalibrated, "discrimination": uncertainty - recalibrated}
    return {**parts, "uncertainty": uncertainty}


def explain_brier(check: ForwardCheck) -> pd.DataFrame:
    """The Brier score of a forward check taken apart: part, value, meaning; empty where nothing was tested."""
    tested = check.predictions[check.predictions["weight"] > 0] if len(check.predictions) else check.predictions
    if tested.empty:
        return pd.DataFrame(columns=["part", "value", "meaning"])
    parts = decompose_brier(*(tested[c].to_numpy("float64") for c in ("win_probability", "outcome", "weight")))
    rows = [(part, parts[part], meaning) for part, meaning in MEANINGS.items()]
    return pd.DataFrame(rows, columns=["part", "value", "meaning"])


def _pool(rate: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Pool adjacent violators: as many groups as rows are cheap this way."""
    from scipy.optimize import isotonic_regression

    keep = mass > 0
    fitted = np.zeros_like(rate)
    fitted[keep] = isotonic_regression(rate[keep], weights=mass[keep]).x
    return fitted
