"""Reads counts or draws, makes interval ends: proportions (Wilson, Jeffreys), clustered proportions, draws."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LEVEL = 0.95  # every published interval unless it says otherwise

Array = npt.NDArray[np.float64]


def wilson(successes: npt.ArrayLike, trials: npt.ArrayLike, level: float = LEVEL) -> tuple[Array, Array]:
    """Wilson score interval of a proportion.

    Parameters
    ----------
    successes, trials : array_like
        Counts; fractions are allowed, so that an effective sample size can be used.
    level : float
        Confidence level.

    Returns
    -------
    low, high : ndarray
        Ends inside [0, 1]; NaN where `trials` is 0.

    Notes
    -----
    Assumes independent trials. For opportunities clustered in accounts use `clustered_proportion`.
    Wilson (1927); Brown, Cai and DasGupta (2001), section 3.1.1.

    Examples
    --------
    >>> low, high = wilson(10, 40)
    >>> round(float(low), 4), round(float(high), 4)
    (0.1419, 0.4019)
    """
    x, n = np.asarray(successes, dtype=float), np.asarray(trials, dtype=float)
    z2 = _normal_quantile(level) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        p = x / n
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def jeffreys(successes: npt.ArrayLike, trials: npt.ArrayLike, level: float = LEVEL) -> tuple[Array, Array]:
    """Equal-tailed Jeffreys interval of a proportion: quantiles of Beta(x + 1/2, n - x + 1/2).

    The lower end is 0 when there are no successes and the upper end is 1 when there are only successes.

    Parameters
    ----------
    successes, trials : array_like
        Counts, independent trials.
    level : float
        Confidence level.

    Returns
    -------
    low, high : ndarray
        NaN where `trials` is 0.

    Notes
    -----
    Brown, Cai and DasGupta (2001), section 3.1.2, with their change at the ends.
    """
    from scipy.special import betaincinv

    x, n = np.broadcast_arrays(np.asarray(successes, dtype=float), np.asarray(trials, dtype=float))
    tail = (1 - level) / 2
    low = np.where(x <= 0, 0.0, betaincinv(x + 0.5, n - x + 0.5, tail))
    high = np.where(x >= n, 1.0, betaincinv(x + 0.5, n - x + 0.5, 1 - tail))
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def effective_trials(
    rate: npt.ArrayLike, variance: npt.ArrayLike, trials: npt.ArrayLike, units: npt.ArrayLike, level: float = LEVEL
) -> Array:
    """Number of independent trials that would give the same variance as these clustered ones.

    Parameters
    ----------
    rate : array_like
        The observed proportion.
    variance : array_like
        Its variance when whole units (account families) are resampled.
    trials : array_like
        Opportunities behind it; never exceeded, so a lucky sample does not narrow the interval.
    units : array_like
        Families behind it; used as they are where the variance is 0 (no or only successes), because then the
        sample says nothing about clustering and the cautious reading is one trial a family.
    level : float
        Level of the interval it is for: few families cost degrees of freedom.

    Returns
    -------
    ndarray
        Effective trials, at least 1 where there is a family.

    Notes
    -----
    Korn and Graubard (1998); Dean and Pagano (2015) find the Wilson interval on it to cover best.
    """
    from scipy.special import stdtrit

    p, v, n, f = (np.asarray(a, dtype=float) for a in (rate, variance, trials, units))
    penalty = (_normal_quantile(level) / stdtrit(np.maximum(f - 1, 1), (1 + level) / 2)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = p * (1 - p) / v * np.where(f < n, penalty, 1.0)
    return np.clip(np.where(v > 0, effective, f), np.minimum(1, f), n)


def clustered_proportion(
    rate: npt.ArrayLike,
    variance: npt.ArrayLike,
    trials: npt.ArrayLike,
    units: npt.ArrayLike,
    level: float = LEVEL,
) -> tuple[Array, Array]:
    """Wilson interval of a proportion whose trials are clustered in units: Wilson on the effective trials.

    Parameters are those of `effective_trials`. With one trial a unit it is the plain Wilson interval.
    """
    n = effective_trials(rate, variance, trials, units, level)
    return wilson(np.asarray(rate, dtype=float) * n, n, level)


def percentile(draws: npt.NDArray, level: float = LEVEL) -> tuple[Array, Array]:
    """Percentile interval over the first axis of resampled values; undefined draws are left out.

    NaN where less than nine in ten draws are defined: the rest would flatter the estimate.
    """
    draws = np.asarray(draws, dtype=float)
    tail = (1 - level) / 2
    finite = np.isfinite(draws)
    if finite.all() and len(draws):
        ends = np.quantile(draws, [tail, 1 - tail], axis=0)
        return ends[0], ends[1]
    known = finite.mean(axis=0) >= 0.9
    safe = np.where(known, draws, 0.0)
    low, high = np.nanquantile(np.where(np.isfinite(safe), safe, np.nan), [tail, 1 - tail], axis=0)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def widened(units: float, level: float = LEVEL) -> float:
    """Level at which percentiles of resampled values cover `level` when few units are resampled.

    Notes
    -----
    Expanded percentile interval (Hesterberg 2015): resampling n units understates the variance by (n - 1) / n and knows
    nothing of the t distribution; both matter below some fifty units.
    """
    from scipy.special import ndtr, stdtrit

    if units < 2:
        return level
    return float(2 * ndtr(np.sqrt(units / (units - 1)) * stdtrit(units - 1, (1 + level) / 2)) - 1)


def bca(estimate: float, draws: npt.NDArray, jackknife: npt.NDArray, level: float = LEVEL) -> tuple[float, float]:
    """Bias-corrected and accelerated interval of one statistic.

    Parameters
    ----------
    estimate : float
        The statistic on the data.
    draws : ndarray, shape (replicates,)
        The statistic on resampled data.
    jackknife : ndarray, shape (units,)
        The statistic with each unit left out once.
    level : float
        Confidence level.

    Notes
    -----
    Efron (1987). Falls back to percentiles where the correction is undefined (every draw on one side).
    """
    from scipy.special import ndtr, ndtri

    draws = np.asarray(draws, dtype=float)
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return np.nan, np.nan
    below = (np.mean(draws < estimate) + np.mean(draws <= estimate)) / 2
    if not 0 < below < 1:
        low, high = percentile(draws, level)
        return float(low), float(high)
    gaps = np.mean(jackknife) - np.asarray(jackknife, dtype=float)
    spread = np.sum(gaps**2) ** 1.5
    acceleration = np.sum(gaps**3) / (6 * spread) if spread > 0 else 0.0
    bias, z = ndtri(below), _normal_quantile(level) * np.array([-1.0, 1.0])
    shares = ndtr(bias + (bias + z) / (1 - acceleration * (bias + z)))
    low, high = np.quantile(draws, shares)
    return float(low), float(high)


def cox_mean(values: npt.ArrayLike, level: float = LEVEL) -> tuple[float, float, float]:
    """Mean of a log-normal quantity with Cox's interval, for independent heavy-tailed amounts.

    Parameters
    ----------
    values : array_like
        Positive amounts; others are left out.
    level : float
        Confidence level.

    Returns
    -------
    mean, low, high : float
        exp(m + s²/2) with m and s² of the logarithms; NaN for fewer than two values.

    Notes
    -----
    Zhou and Gao (1997), Cox's method with the t quantile of Olsson (2005). Wrong where amounts are not log-normal.
    """
    from scipy.special import stdtrit

    logs = np.asarray(values, dtype=float)
    logs = np.log(logs[logs > 0])
    if len(logs) < 2:
        return np.nan, np.nan, np.nan
    n, variance = len(logs), logs.var(ddof=1)
    centre = logs.mean() + variance / 2
    half = stdtrit(n - 1, (1 + level) / 2) * np.sqrt(variance / n + variance**2 / (2 * (n - 1)))
    return float(np.exp(centre)), float(np.exp(centre - half)), float(np.exp(centre + half))


def _normal_quantile(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2))
