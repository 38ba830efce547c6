"""Reads p-values of many questions, makes false-discovery adjusted ones and decides which families may be opened."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """Smallest false-discovery rate at which each question would be answered "yes" (its q-value).

    Parameters
    ----------
    p_values
        One p-value per question; NaN marks a question that was not asked and stays NaN, uncounted.

    Returns
    -------
    array
        q-values in the order given: min over larger p of p·m/rank, at most 1; ties share a value.

    Notes
    -----
    Benjamini and Hochberg 1995, Journal of the Royal Statistical Society B 57(1), section 3. Holds for independent and
    for positively dependent tests (Benjamini and Yekutieli 2001, theorem 1.2).

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.04, 0.03, 0.5]).round(4).tolist()
    [0.04, 0.0533, 0.0533, 0.5]
    """
    p = np.asarray(p_values, dtype=float)
    q = np.full(p.shape, np.nan)
    asked = np.flatnonzero(~np.isnan(p))
    order = asked[np.argsort(p[asked], kind="stable")]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return q


def global_test(p_values: ArrayLike) -> float:
    """p-value of "none of these questions has the answer yes" (Simes): the smallest q-value.

    NaN marks questions not asked; without any question the answer is 1. Simes 1986, Biometrika 73(3).

    Examples
    --------
    >>> round(global_test([0.01, 0.04, 0.03, 0.5]), 4)
    0.04
    """
    q = benjamini_hochberg(p_values)
    return float(np.nanmin(q)) if np.isfinite(q).any() else 1.0


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p-values adjusted so that the chance of any wrong "yes" stays below the level compared with (Holm 1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(4).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    asked = np.flatnonzero(~np.isnan(p))
    order = asked[np.argsort(p[asked], kind="stable")]
    scaled = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted


def open_families(
    families: pd.DataFrame, *, root: str, level: float = 0.05, outcome: str = "outcome", scope: str = "scope"
) -> pd.DataFrame:
    """Which families of questions may be looked into: outcome by outcome, the whole first, then its parts.

    Parameters
    ----------
    families
        One row per outcome and scope with its global p-value `p_global`.
    root
        The scope that covers everything; its parts are opened only when it passed.
    level
        Chance of opening any family of a market in which nothing is associated with anything.

    Returns
    -------
    DataFrame
        The same rows with `p_family` (Holm over the outcomes for the root, over the parts of one outcome below) and
        `opened`.

    Notes
    -----
    Fixed-sequence gatekeeping: parts are tested at the full level after their whole passed, so under the global null
    nothing at all is reported with probability 1 - level at least. (Meinshausen 2008, Biometrika 95(2), section 2.)
    """
    result = families.reset_index(drop=True).copy()
    is_root = (result[scope] == root).to_numpy()
    p = result["p_global"].to_numpy(dtype=float)
    p_family = np.full(len(result), np.nan)
    p_family[is_root] = holm(p[is_root])
    for _, part in result[~is_root].groupby(outcome, sort=False):
        rows = part.index.to_numpy()
        p_family[rows] = holm(p[rows])
    passed = set(result.loc[is_root & (p_family <= level), outcome])
    result["p_family"] = p_family
    result["opened"] = (p_family <= level) & result[outcome].isin(passed).to_numpy()
    return result
