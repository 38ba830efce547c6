"""Reads estimates of several levels, makes partially pooled ones: full Bayes over hyper-parameters on a grid.

A small level is drawn towards the others as far as the data say that levels are alike. Deterministic: no sampling.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core.stats.intervals import LEVEL

_KEPT = 3e-3  # hyper-parameter points below this share of the best are dropped: moves interval ends by < 0.1 points
_POINTS = 201  # grid of the quantity itself

Array = npt.NDArray[np.float64]
Posterior = tuple[Array, Array, Array]  # two parameters per hyper-parameter point and level, and the points' weights


def pool_rates(
    successes: npt.ArrayLike, trials: npt.ArrayLike, level: float = LEVEL, *, ranks: bool = True
) -> pd.DataFrame:
    """Partially pooled proportions of the levels of one cut.

    Parameters
    ----------
    successes, trials : array_like, shape (levels,)
        Counts; where trials are clustered give effective ones (`intervals.effective_trials`). A level with 0 trials
        gets the population's distribution.
    level : float
        Level of the credible interval.
    ranks : bool
        Also work out `p_best` and `p_worst`, which costs more than the rest; without it they are missing.

    Returns
    -------
    DataFrame
        One row per level in the given order: `pooled` (posterior mean), `pooled_low`, `pooled_high` (equal-tailed),
        `p_best`, `p_worst` (posterior probability of the highest and the lowest true rate).

    Notes
    -----
    Beta-binomial; hyper-prior uniform in the mean, half-Cauchy with scale 0.3 in the spread between levels in log odds
    (Gelman 2006; Polson and Scott 2012): as likely as not levels differ by less than 0.3, six points at a rate of 25 %. A
    flat prior believes in spreads that no market shows, and so shrinks the leader too little (docs/decisions/0012). The
    interval mixes over hyper-parameters: intervals that plug in one estimate are too narrow.
    """
    up, down, weight = _rate_posterior(np.asarray(successes, dtype=float), np.asarray(trials, dtype=float))
    return _mixture(_beta_grid(up, down), lambda grid: _beta_density(grid, up, down), weight, level, ranks)


def pool_estimates(
    estimates: npt.ArrayLike, standard_errors: npt.ArrayLike, level: float = LEVEL, *, ranks: bool = True
) -> pd.DataFrame:
    """Partially pooled estimates that are about normal (take logarithms of money and ratios first).

    Parameters
    ----------
    estimates, standard_errors : array_like, shape (levels,)
        Where either is not finite, or the error is 0, the level gets the population's distribution.
    level : float
        Level of the credible interval.
    ranks : bool
        Also work out `p_best` and `p_worst`, which costs more than the rest; without it they are missing.

    Returns
    -------
    DataFrame
        As `pool_rates`.

    Notes
    -----
    Normal-normal with flat prior on the mean and a half-Cauchy on the spread between levels, scaled by the median
    standard error (Gelman 2006); the spread is integrated over a grid, the mean analytically.
    """
    y, s = np.asarray(estimates, dtype=float), np.asarray(standard_errors, dtype=float)
    if _known(y, s).sum() < 2:
        return pd.DataFrame({c: np.full(len(y), np.nan) for c in _COLUMNS})
    return _normal_mixture(_estimate_posterior(y, s), level, ranks)


def pool_and_draw_rates(
    successes: npt.ArrayLike, trials: npt.ArrayLike, draws: int, seed: int
) -> tuple[pd.DataFrame, Array]:
    """`pool_rates` without ranks and `draw_rates` from one posterior, which is what costs."""
    posterior = _rate_posterior(np.asarray(successes, dtype=float), np.asarray(trials, dtype=float))
    up, down, weight = posterior
    pooled = _mixture(_beta_grid(up, down), lambda grid: _beta_density(grid, up, down), weight, LEVEL, False)
    return pooled, _beta_draws(posterior, draws, seed)


def pool_and_draw_estimates(
    estimates: npt.ArrayLike, standard_errors: npt.ArrayLike, draws: int, seed: int
) -> tuple[pd.DataFrame, Array]:
    """`pool_estimates` without ranks and `draw_estimates` from one posterior."""
    y, s = np.asarray(estimates, dtype=float), np.asarray(standard_errors, dtype=float)
    if _known(y, s).sum() < 2:
        return pool_estimates(y, s, ranks=False), np.full((draws, len(y)), np.nan)
    posterior = _estimate_posterior(y, s)
    return _normal_mixture(posterior, LEVEL, False), _normal_draws(posterior, draws, seed)


def draw_rates(successes: npt.ArrayLike, trials: npt.ArrayLike, draws: int, seed: int) -> Array:
    """Draws of the true proportions from the posterior of `pool_rates`, shape (draws, levels): for joint statements."""
    posterior = _rate_posterior(np.asarray(successes, dtype=float), np.asarray(trials, dtype=float))
    return _beta_draws(posterior, draws, seed)


def draw_estimates(estimates: npt.ArrayLike, standard_errors: npt.ArrayLike, draws: int, seed: int) -> Array:
    """Draws of the true values from the posterior of `pool_estimates`, shape (draws, levels); NaN with fewer than two."""
    y, s = np.asarray(estimates, dtype=float), np.asarray(standard_errors, dtype=float)
    if _known(y, s).sum() < 2:
        return np.full((draws, len(y)), np.nan)
    return _normal_draws(_estimate_posterior(y, s), draws, seed)


def steady_trials(rates: npt.ArrayLike, variances: npt.ArrayLike, trials: npt.ArrayLike, units: npt.ArrayLike) -> Array:
    """Effective trials of each level for `pool_rates`, from a clustering that is estimated over all levels together.

    The variance of a small level is itself a matter of luck: a level whose wins happen to fall into different families
    looks better known than it is, and would keep its lucky rate. So its own design effect counts for as much as that of
    all levels only where it has a hundred families.

    Parameters
    ----------
    rates, variances : array_like, shape (levels,)
        Observed proportions, and their variances with whole units (account families) resampled.
    trials, units : array_like, shape (levels,)
        Opportunities and families behind them.

    Returns
    -------
    ndarray, shape (levels,)
        At most `trials`.
    """
    p, v, n, families = (np.nan_to_num(np.asarray(a, dtype=float)) for a in (rates, variances, trials, units))
    independent = p * (1 - p) * n
    common = max((v * n * n).sum() / independent.sum(), 1.0) if independent.sum() > 0 else 1.0
    own = np.divide(v * n * n, independent, out=np.full(len(n), common), where=independent > 0)
    weight = families / (families + _STEADY_UNITS)
    return n / np.maximum(weight * own + (1 - weight) * common, 1.0)


_STEADY_UNITS = 100  # families at which a level's own design effect, known to about 15 %, counts as much as that of all
_COLUMNS = ("pooled", "pooled_low", "pooled_high", "p_best", "p_worst")
_RATE_SIZES = np.geomspace(1.0, 1e5, 24)
_RATE_SPREAD = 0.3  # log odds: scale of the half-Cauchy prior on the spread between levels
_SPREADS = np.geomspace(0.02, 60.0, 90)


def _rate_posterior(x: Array, n: Array) -> tuple[Array, Array, Array]:
    """Both parameters of each level's Beta distribution at each hyper-parameter point, and the points' weights."""
    from scipy.special import betaln

    mean, size = (g.ravel() for g in np.meshgrid(_mean_grid(x, n), _RATE_SIZES, indexing="ij"))
    a, b = mean * size, (1 - mean) * size
    fit = (betaln(a[:, None] + x, b[:, None] + n - x) - betaln(a, b)[:, None]).sum(axis=1)
    spread = 1 / np.sqrt(mean * (1 - mean) * (size + 1))  # between levels, in log odds
    prior = -np.log1p((spread / _RATE_SPREAD) ** 2) + np.log(spread * size / (size + 1)) + np.log(mean * (1 - mean))
    weight = _normalised(fit + prior)  # the grid is even in log(size) and logit(mean), hence the Jacobians
    a, b, weight = a[weight > 0], b[weight > 0], weight[weight > 0]
    return a[:, None] + x, b[:, None] + n - x, weight  # hyper x levels


def _known(y: Array, s: Array) -> npt.NDArray[np.bool_]:
    return np.isfinite(y) & np.isfinite(s) & (s > 0)


def _estimate_posterior(y: Array, s: Array) -> tuple[Array, Array, Array]:
    """Mean and spread of each level at each hyper-parameter point, and the points' weights."""
    known = _known(y, s)
    scale = float(np.median(s[known]))
    tau = scale * _SPREADS
    precision = np.where(known, 1 / (np.where(known, s, 1.0) ** 2 + tau[:, None] ** 2), 0.0)  # tau x levels
    total = precision.sum(axis=1)
    centre = (precision @ np.where(known, y, 0.0)) / total
    gap = np.where(known, y, 0.0) - centre[:, None]
    logs = (
        np.log(np.where(known, precision, 1.0)).sum(axis=1) / 2
        - np.log(total) / 2
        - (precision * gap**2).sum(axis=1) / 2
    )
    weight = _normalised(logs - np.log1p(_SPREADS**2) + np.log(_SPREADS))
    tau, centre, total, weight = (v[weight > 0] for v in (tau, centre, total, weight))
    own = np.where(known, tau[:, None] ** 2 / (tau[:, None] ** 2 + np.where(known, s, 1.0) ** 2), 0.0)
    middle = own * np.where(known, y, 0.0) + (1 - own) * centre[:, None]
    # Given the spread: own uncertainty plus what is not known about the centre.
    spread = np.sqrt(
        np.where(known, own * np.where(known, s, 1.0) ** 2, tau[:, None] ** 2) + (1 - own) ** 2 / total[:, None]
    )
    return middle, spread, weight


def _beta_draws(posterior: Posterior, draws: int, seed: int) -> Array:
    up, down, weight = posterior
    generator = np.random.Generator(np.random.PCG64(seed))
    point = generator.choice(len(weight), size=draws, p=weight)
    return generator.beta(up[point], down[point])


def _normal_draws(posterior: Posterior, draws: int, seed: int) -> Array:
    middle, spread, weight = posterior
    generator = np.random.Generator(np.random.PCG64(seed))
    point = generator.choice(len(weight), size=draws, p=weight)
    return generator.normal(middle[point], spread[point])


def _normal_mixture(posterior: Posterior, level: float, ranks: bool) -> pd.DataFrame:
    middle, spread, weight = posterior
    grid = np.linspace((middle - 6 * spread).min(), (middle + 6 * spread).max(), _POINTS)
    return _mixture(grid, lambda g: _normal_density(g, middle, spread), weight, level, ranks)


def _mean_grid(x: Array, n: Array) -> Array:
    """Candidate population means: the pooled rate and six standard errors around it on the logit scale."""
    logits = np.log((x + 0.5) / (n - x + 0.5))
    pooled = (x.sum() + 0.5) / (n.sum() + 1)
    between = np.std(logits) / np.sqrt(len(x))
    within = 1 / np.sqrt(max(n.sum() * pooled * (1 - pooled), 0.5))
    half = 6 * np.hypot(between, within)
    return 1 / (1 + np.exp(-(np.log(pooled / (1 - pooled)) + np.linspace(-half, half, 25))))


def _normalised(logs: Array) -> Array:
    weight = np.exp(logs - logs.max())
    weight[weight < _KEPT] = 0.0
    return weight / weight.sum()


def _beta_grid(up: Array, down: Array) -> Array:
    """Points that cover every posterior: even where rates are, dense when all are narrow."""
    mean, size = up / (up + down), up + down
    sd = np.sqrt(mean * (1 - mean) / (size + 1))
    low, high = max((mean - 7 * sd).min(), 0.0), min((mean + 7 * sd).max(), 1.0)
    step = (high - low) / _POINTS
    return low + step * (np.arange(_POINTS) + 0.5)


def _beta_density(grid: Array, up: Array, down: Array) -> Array:
    logs = (up - 1)[..., None] * np.log(grid) + (down - 1)[..., None] * np.log1p(-grid)
    return np.exp(logs - logs.max(axis=-1, keepdims=True))


def _normal_density(grid: Array, middle: Array, spread: Array) -> Array:
    return np.exp(-0.5 * ((grid - middle[..., None]) / spread[..., None]) ** 2)


def _mixture(grid: Array, density: Callable[[Array], Array], weight: Array, level: float, ranks: bool) -> pd.DataFrame:
    """Mean, interval and ranks of each level from its density at each hyper-parameter point."""
    share = density(grid)  # hyper x levels x grid
    share /= share.sum(axis=-1, keepdims=True)
    mixed = np.tensordot(weight, share, axes=1)
    running = np.cumsum(mixed, axis=-1) - mixed / 2
    tail = (1 - level) / 2
    ends = np.array([np.interp([tail, 1 - tail], row, grid) for row in running])
    best = worst = np.full(len(mixed), np.nan)
    if ranks:
        below = np.cumsum(share, axis=-1) - share / 2  # P(level < grid point)
        best, worst = _first(share, below, weight), _first(share, 1 - below, weight)
    return pd.DataFrame(dict(zip(_COLUMNS, (mixed @ grid, ends[:, 0], ends[:, 1], best, worst), strict=True)))


def _first(share: Array, below: Array, weight: Array) -> Array:
    """P(each level is beyond all others), levels independent given the hyper-parameters."""
    logs = np.log(np.maximum(below, 1e-300))
    others = np.exp(logs.sum(axis=1, keepdims=True) - logs)
    chance = np.tensordot(weight, (share * others).sum(axis=-1), axes=1)
    return chance / chance.sum()
