"""Reads the forward check and tiers, makes the pipeline before and after: all that was worked against the best tiers alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.model import Model
from icplab.core.stats.resample import draw_weights
from icplab.tiers.promise import place_then

REPLICATES = 500  # resamples of families behind the intervals
KEPT = ("tier_1", "tier_2")
COLUMNS = (
    *("pipeline", "opportunities", "win_rate", "value_won", "yield_per_opportunity", "low", "high"),
    "share_of_value",
)


def compare_pipeline(
    predictions: pd.DataFrame, model: Model, market: pd.DataFrame, settings: Settings, seed: int
) -> pd.DataFrame:
    """What the tested pipeline would have been with tiers 1 and 2 alone, tiers set on what was known before.

    Parameters
    ----------
    predictions : of the forward check
    model, market, settings : as in `check_tiers`
    seed : of the resampling of account families

    Returns
    -------
    Two rows, before (everything that was opened) and after (opened with an account of tier 1 or 2 of that time): opportunities,
    win_rate, value_won (worth of what was won, in the currency, or wins where nothing is measured), yield_per_opportunity
    with 95 % interval (low, high, families resampled), share_of_value. Empty without a forward check.

    Notes
    -----
    It re-reads what happened; it does not say that working fewer accounts leaves the others' outcome as it was.
    """
    if predictions.empty or not model.usable:
        return pd.DataFrame(columns=list(COLUMNS))
    tested = place_then(predictions, model, market, settings)
    tested = tested[tested["weight"] > 0].sort_values("opportunity_id", ignore_index=True)
    codes, families = pd.factorize(tested["family_id"], sort=True)
    weight = draw_weights(len(families), REPLICATES, seed)[:, codes] * tested["weight"].to_numpy()
    earned = (tested["outcome"] * tested["worth"]).to_numpy()
    whole = float((tested["weight"] * earned).sum())
    rows = []
    for name, inside in (("before", np.ones(len(tested), bool)), ("after", tested["tier"].isin(KEPT).to_numpy())):
        w = tested["weight"].to_numpy() * inside
        with np.errstate(invalid="ignore"):
            draws = (weight * inside) @ earned / (weight @ inside)
        low, high = np.nanquantile(draws, [0.025, 0.975])
        value = float(w @ earned)
        rate = float(w @ tested["outcome"].to_numpy() / max(w.sum(), 1e-12))
        each = value / max(w.sum(), 1e-12)
        rows.append((name, float(inside.sum()), rate, value, each, low, high, value / whole if whole else np.nan))
    return pd.DataFrame(rows, columns=list(COLUMNS))
