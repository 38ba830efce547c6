"""Reads a measured outcome and design columns, makes least-squares effects of many candidate columns at once.

The twin of `logistic` for outcomes on a log scale (value, cycle, margin): same arguments, same returned columns.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from icplab.core.errors import ContractBroken
from icplab.core.stats.blocks import invert, sum_by_cluster
from icplab.core.stats.logistic import cluster_sums, jackknife

Floats = NDArray[np.floating]


def fit_linear_candidates(
    outcome: ArrayLike,
    candidates: ArrayLike,
    nuisance: ArrayLike,
    *,
    missing: ArrayLike | None = None,
    ridge: ArrayLike = 0.0,
    clusters: ArrayLike | None = None,
    twin: ArrayLike | None = None,
) -> tuple[pd.DataFrame, Floats]:
    """Slope of each candidate column, one least-squares regression per candidate with the same nuisance columns.

    Parameters
    ----------
    outcome
        One measurement per row (a logarithm, when slopes are to be read as ratios).
    candidates, nuisance, missing, clusters, twin
        As in `logistic.fit_candidates`.
    ridge
        Penalty on the nuisance coefficients in units of 1/variance of their prior; multiplied here by the residual variance,
        so that the same number means the same prior as in `logistic`.

    Returns
    -------
    tuple
        A table with the columns of `logistic.fit_candidates` (`separated` is always False), and the influence of each
        cluster on each estimate.

    Raises
    ------
    ContractBroken
        When shapes differ or the outcome is not finite.
    """
    y, z, x = (np.asarray(a, dtype=float) for a in (outcome, nuisance, candidates))
    if y.shape != z.shape[:1] or y.shape != x.shape[:1] or not np.isfinite(y).all():
        raise ContractBroken(f"outcome {y.shape}, candidates {x.shape} and nuisance {z.shape} do not fit together")
    penalty = np.broadcast_to(np.asarray(ridge, dtype=float), (z.shape[1],)) * residual_variance(y, z, ridge)
    twins = np.full(x.shape[1], -1) if twin is None else np.asarray(twin, dtype=np.intp)
    inverse = invert(z.T @ z + np.diag(penalty))
    columns = [x] if missing is None or not np.asarray(missing).any() else [x, np.asarray(missing, dtype=float)]
    left = [_unexplained(z, c, inverse, twins) for c in columns]
    y_left = _unexplained(z, np.repeat(y[:, None], x.shape[1], axis=1), inverse, twins)
    if len(left) == 2:  # the missing indicator is explained away too
        squares = np.maximum((columns[1] * left[1]).sum(axis=0), 1e-12)
        y_left = y_left - left[1] * ((columns[1] * y_left).sum(axis=0) / squares)
        left[0] = left[0] - left[1] * ((columns[1] * left[0]).sum(axis=0) / squares)
    squares, products = (columns[0] * left[0]).sum(axis=0), (columns[0] * y_left).sum(axis=0)
    return _table(y_left, left[0], squares, products, clusters, z.shape[1] + len(left))


def residual_variance(outcome: ArrayLike, design: ArrayLike, ridge: ArrayLike = 0.0) -> float:
    """Variance of what the design leaves of the outcome, by least squares; a ridge only keeps repeated columns apart."""
    y, z = np.asarray(outcome, dtype=float), np.asarray(design, dtype=float)
    penalty = np.broadcast_to(np.asarray(ridge, dtype=float), (z.shape[1],)) * y.var()
    inverse = invert(z.T @ z + np.diag(penalty))
    rest = y - z @ (inverse @ (z.T @ y))
    used = float(np.sum(inverse * (z.T @ z)))  # effective number of parameters, the trace of the hat matrix
    return float(rest @ rest / max(len(y) - used, 1.0))


def _unexplained(z: Floats, columns: Floats, inverse: Floats, twins: NDArray[np.intp]) -> Floats:
    """Columns less what the nuisance explains of them, each candidate's twin taken out of the nuisance."""
    right = z.T @ columns
    has = np.flatnonzero(twins >= 0)
    t = twins[has]
    right[t, has] = 0
    solved = inverse @ right
    solved[:, has] -= inverse[:, t] * (solved[t, has] / inverse[t, t])
    return columns - z @ solved


def _table(
    y_left: Floats, x_left: Floats, squares: Floats, products: Floats, clusters: ArrayLike | None, parameters: int
) -> tuple[pd.DataFrame, Floats]:
    """Slopes with model-based and clustered errors."""
    from scipy import special

    n = len(y_left)
    spread = np.where(squares > 1e-9, squares, np.nan)
    slope = products / spread
    rest = y_left - x_left * slope
    freedom = max(n - parameters, 1)
    se_model = np.sqrt((rest**2).sum(axis=0) / freedom / spread)
    p_value = 2 * special.stdtr(freedom, -np.abs(slope / se_model))
    se_cluster, se_jackknife, df = (np.full(len(slope), v) for v in (np.nan, np.nan, float(freedom)))
    sums: Floats = x_left * rest / spread
    if clusters is not None:
        sums = cluster_sums(sums, clusters, parameters)
        se_cluster = np.sqrt((sums**2).sum(axis=0))
        shares = sum_by_cluster(np.nan_to_num(x_left**2 / spread), pd.factorize(np.asarray(clusters), sort=False)[0])
        se_jackknife, df = jackknife(sums, shares)
        p_value = np.fmax(p_value, 2 * special.stdtr(df, -np.abs(slope / np.maximum(se_jackknife, 1e-300))))
    table = pd.DataFrame(
        {
            "estimate": slope,
            "se_model": se_model,
            "se_cluster": se_cluster,
            "se_jackknife": se_jackknife,
            "se": np.fmax(se_model, se_jackknife),
            "p_value": p_value,
            "df": df,
            "separated": False,
            "converged": True,
        }
    )
    return table, np.nan_to_num(sums)
