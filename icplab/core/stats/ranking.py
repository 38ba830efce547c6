"""Reads draws of several true values, makes statements on their order: best, ranks with intervals, who beats whom.

A league table of estimates mostly ranks luck; the spread of ranks over the posterior says how much of an order is known.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core.stats.intervals import LEVEL


def rank_intervals(draws: npt.NDArray[np.float64], level: float = LEVEL) -> pd.DataFrame:
    """Chance of being the highest and interval of the rank of each value; rank 1 is the highest.

    Parameters
    ----------
    draws : ndarray, shape (draws, values)
        Draws of the true values, from `pooling.draw_rates` or `draw_estimates`.
    level : float
        Level of the interval.

    Returns
    -------
    DataFrame
        One row per value: `p_best, rank_low, rank_high`.

    Notes
    -----
    Goldstein and Spiegelhalter (1996), on ranks of institutions.
    """
    ranks = np.empty(draws.shape, dtype=np.int64)
    order = np.argsort(-draws, axis=1, kind="stable")
    np.put_along_axis(ranks, order, np.arange(1, draws.shape[1] + 1)[None, :], axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(ranks, [tail, 1 - tail], axis=0, method="inverted_cdf")
    return pd.DataFrame({"p_best": (ranks == 1).mean(axis=0), "rank_low": low, "rank_high": high})


def beats(draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """P(value in the row is higher than the one in the column), shape (values, values); the diagonal is missing."""
    chance = np.array([(column[:, None] > draws).mean(axis=0) for column in draws.T])
    np.fill_diagonal(chance, np.nan)
    return chance
