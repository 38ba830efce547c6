"""Reads sums per unit (account family), makes resampled sums and the intervals of ratios: matrix products, no loops.

Whole families are drawn, never single opportunities: deals of one organisation share their fate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from icplab.core.stats.intervals import LEVEL

REPLICATES = 1000  # enough for interval ends within 10 % of a width
CHUNK_CELLS = 1 << 18  # weights made at once: they stay in the processor's cache until they are multiplied

MOST_WORKERS = 8
BATCH = 64  # blocks handed out at once: what waits to be added stays small

Weights = npt.NDArray[np.float32]
Block = tuple[int, int, int]
_Found = TypeVar("_Found")


def draw_weights(units: int, replicates: int = REPLICATES, seed: int = 0, kind: str = "poisson") -> Weights:
    """How often each unit is drawn in each resample.

    Parameters
    ----------
    units : int
        Number of units; the caller sorts them by id, so that row order does not matter.
    replicates : int
        Number of resamples.
    seed : int
        Seed of the generator.
    kind : str
        `poisson`: independent Poisson(1) weights, so that any subset of units is itself a resample and one matrix
        serves every cut; `multinomial`: exactly `units` draws a resample (the textbook bootstrap).

    Returns
    -------
    ndarray of float32, shape (replicates, units)

    Notes
    -----
    Poisson weights: Hanley and MacGibbon (2006); Chamandy et al. (2012). Two weights are drawn at once from a table of
    65,536 pairs, more than ten times faster than by a Poisson generator; each probability is right to 4e-5, the mean
    exactly, the variance to 4e-4. They depend on the seed alone, not on threads, cache or processor.
    """
    if kind == "poisson":
        return _draw_poisson(replicates * units, seed).reshape(replicates, units)
    if kind != "multinomial":
        raise ValueError(f'kind "{kind}" is not one of poisson, multinomial')
    generator = np.random.Generator(np.random.PCG64(seed))
    picked = generator.integers(0, max(units, 1), size=(replicates, units))
    cells = picked + np.arange(replicates)[:, None] * units
    return np.bincount(cells.ravel(), minlength=replicates * units).reshape(replicates, units).astype(np.float32)


def resample_sums(
    totals: npt.NDArray, replicates: int = REPLICATES, seed: int = 0, groups: npt.NDArray | None = None
) -> npt.NDArray[np.float64]:
    """Resampled column sums over units, in a bounded amount of memory.

    Parameters
    ----------
    totals : ndarray, shape (units, columns)
        What each unit adds to each sum (wins, closed, amount, ...).
    replicates, seed : int
        As in `draw_weights` (Poisson).
    groups : ndarray of int, shape (units,), optional
        Group of each unit, 0..g-1; sums are then made per group.

    Returns
    -------
    ndarray, shape (replicates, columns) or (replicates, groups, columns)
        For ratios divide one column by another: both then come from the same resample.
    """
    from threadpoolctl import threadpool_limits

    totals = np.asarray(totals, dtype=np.float32)
    order = np.arange(len(totals)) if groups is None else np.argsort(groups, kind="stable")
    n_groups = 1 if groups is None else int(np.max(groups, initial=-1)) + 1
    bounds = np.array([0, len(totals)]) if groups is None else np.searchsorted(groups[order], np.arange(n_groups + 1))
    sums = np.zeros((n_groups, replicates, totals.shape[1]))
    ordered, blocks = totals[order], _blocks(len(totals), replicates, seed)

    def products(block: Block) -> list[tuple[int, Weights]]:
        start, size, stream = block
        weights = draw_weights(size, replicates, stream)
        first, last = np.searchsorted(bounds, start, "right") - 1, np.searchsorted(bounds, start + size, "left")
        ends = [(g, max(start, bounds[g]), min(start + size, bounds[g + 1])) for g in range(first, last)]
        return [(g, weights[:, a - start : b - start] @ ordered[a:b]) for g, a, b in ends]

    with threadpool_limits(1):  # one thread a product; several products at a time
        for found in _in_order(products, blocks):
            for group, part in found:
                sums[group] += part
    return sums[0] if groups is None else sums.transpose(1, 0, 2)


def ratio(
    numerator: npt.NDArray, denominator: npt.NDArray, weights: npt.NDArray, *, scale: str = "log", level: float = LEVEL
) -> tuple[float, float, float, npt.NDArray[np.float64]]:
    """Ratio of two sums over units with a studentised interval: means, value rates, retention.

    Parameters
    ----------
    numerator, denominator : ndarray, shape (units,)
        What each unit adds above and below the line.
    weights : ndarray, shape (replicates, units)
        From `draw_weights`.
    scale : str
        Where the interval is made: `log` for positive quantities, `logit` for fractions, `linear` otherwise.
    level : float
        Confidence level.

    Returns
    -------
    value, low, high : float
        NaN where the denominator is 0; ends NaN where the spread is unknown (one unit, or no spread at all).
    draws : ndarray, shape (replicates,)
        The ratio in each resample, for joint statements.

    Notes
    -----
    Bootstrap-t with the linearised variance of a ratio, which is a matrix product of the same weights; second-order
    accurate for skewed amounts where percentiles are not (Efron and Tibshirani 1993, chapter 12.5). Division of the
    variance by units - 1 as in survey sampling. Where few units hold most of the variance the variance itself is little
    known, and resamples of the same units cannot tell: the interval is widened by the t distribution with the degrees of
    freedom that the kurtosis of the units' gaps leaves (Satterthwaite 1946), against those of their number.
    """
    a, b = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    if b.sum() <= 0:
        return np.nan, np.nan, np.nan, np.full(len(weights), np.nan)
    value = float(a.sum() / b.sum())
    gap = a - value * b  # what each unit adds beyond its share; sums of gaps lose no digits to cancellation
    terms = np.column_stack([gap, b, gap * gap, gap * b, b * b, b > 0])
    moves, errors = _ratio_and_error((weights @ terms.astype(np.float32)).astype(float))
    _, error = _ratio_and_error(terms.sum(axis=0, keepdims=True))
    draws = value + moves
    low, high = _studentised(value, float(error[0]) * _tail_factor(gap, level), draws, errors, scale, level)
    return value, low, high, draws


class Ordered(NamedTuple):
    """Observations in ascending order, and how many of each resample stand up to each of them."""

    values: npt.NDArray[np.float64]
    running: npt.NDArray


def order_draws(values: npt.NDArray, weights: npt.NDArray) -> Ordered:
    """What quantiles and trimmed means of resamples are made of, worked out once for all of them.

    Parameters are those of `quantile_draws`.
    """
    order = np.argsort(values, kind="stable")
    return Ordered(np.asarray(values, dtype=float)[order], np.cumsum(weights[:, order], axis=1))


def quantile_draws(values: npt.NDArray, weights: npt.NDArray, share: float) -> npt.NDArray[np.float64]:
    """A quantile of `values` in each resample (linear interpolation between order statistics).

    Parameters
    ----------
    values : ndarray, shape (n,)
        Observations.
    weights : ndarray, shape (replicates, n)
        How often each observation is drawn (the weight of its unit).
    share : float
        0.5 for the median.
    """
    return quantiles_of(order_draws(values, weights), share)


def quantiles_of(drawn: Ordered, share: float) -> npt.NDArray[np.float64]:
    """`quantile_draws` of observations that are in order already."""
    ordered, running = drawn
    place = (running[:, -1:] - 1) * share if len(ordered) else np.zeros((len(running), 1))
    return _between(ordered, running, place)


def trimmed_draws(values: npt.NDArray, weights: npt.NDArray, share: float) -> npt.NDArray[np.float64]:
    """Mean of each resample after dropping the floor(share x n) smallest and largest observations."""
    return trimmed_of(order_draws(values, weights), share)


def trimmed_of(drawn: Ordered, share: float) -> npt.NDArray[np.float64]:
    """`trimmed_draws` of observations that are in order already."""
    ordered, running = drawn
    n = running[:, -1:]
    cut = np.floor(share * n + 1e-9)
    kept = np.diff(np.clip(running, cut, n - cut), axis=1, prepend=cut)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (kept @ ordered) / kept.sum(axis=1)


def _draw_poisson(cells: int, seed: int) -> Weights:
    """Poisson(1) numbers, two for every two random bytes."""
    codes = np.random.SFC64(seed).random_raw((cells + 7) // 8).astype("<u8", copy=False).view("<u2")
    return np.take(_POISSON_PAIRS, codes.astype(np.intp), mode="clip").view(np.float32)[:cells]


def _poisson_pairs() -> npt.NDArray[np.float64]:
    """Pairs of counts, each as often among 65,536 as two independent Poisson(1) numbers show it; two floats as one number.

    Shares are rounded by largest remainder, the same for (a, b) as for (b, a).
    """
    from math import exp, factorial

    chance = np.array([exp(-1) / factorial(k) for k in range(_POISSON_TOP)])
    wanted = np.outer(chance, chance) * (1 << 16)
    times = np.floor(wanted).astype(np.int64)
    left = (1 << 16) - times.sum()
    both = (wanted - times) + (wanted - times).T
    cells = [(int(i), int(j)) for i, j in np.argwhere(np.triu(np.ones_like(both)))]
    for i, j in sorted(cells, key=lambda cell: -both[cell]):
        step = 1 if i == j else 2
        if step <= left:
            times[i, j] += 1
            times[j, i] += step - 1
            left -= step
    first, second = np.divmod(np.repeat(np.arange(_POISSON_TOP**2), times.ravel()), _POISSON_TOP)
    return np.column_stack([first, second]).astype(np.float32).view(np.float64).ravel()


_POISSON_TOP = 9  # P(Poisson(1) > 8) is a fifteenth of one place in 65,536
_POISSON_PAIRS = _poisson_pairs()


def _blocks(units: int, replicates: int, seed: int) -> list[Block]:
    """First unit, number of units and seed of each block; each has its own stream, so memory is bounded."""
    size = max(1, CHUNK_CELLS // max(replicates, 1))
    streams = np.random.SeedSequence(seed).generate_state(units // size + 1)
    starts = range(0, units, size)
    return [(start, min(size, units - start), int(stream)) for start, stream in zip(starts, streams, strict=False)]


def _in_order(work: Callable[[Block], _Found], blocks: list[Block]) -> Iterator[_Found]:
    """Results in the order of the blocks, worked out on all processors: the sums do not depend on how many there are."""
    import os
    from concurrent.futures import ThreadPoolExecutor

    workers = min(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, MOST_WORKERS
    )
    if workers < 2 or len(blocks) < 2 * workers:
        yield from map(work, blocks)
        return
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(blocks), BATCH):
            yield from pool.map(work, blocks[first : first + BATCH])


def _ratio_and_error(sums: npt.NDArray) -> tuple[npt.NDArray, npt.NDArray]:
    """Ratio a/b and its linearised standard error from sums of a, b, a², ab, b² and units."""
    a, b, aa, ab, bb, n = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        r = a / b
        variance = np.maximum(aa - 2 * r * ab + r * r * bb, 0) / b**2 * n / (n - 1)
    return r, np.sqrt(variance)


def degrees_of_freedom(gap: npt.NDArray) -> float:
    """How much is known of a variance that units make with these gaps: at most their number less one, at least 3.

    Satterthwaite (1946): twice the square of the variance over the variance of its estimate, from the units' kurtosis. Where
    few units hold most of the variance it is small; NaN where fewer than three units have a gap.
    """
    known = gap[gap != 0]
    n, squares = len(known), float((known**2).sum())
    if n < 3 or squares <= 0:
        return np.nan
    noise = float((known**4).sum()) / squares**2 - 1 / n  # of the variance, as a share of its square
    return float(np.clip(2 / max(noise, 1e-12), 3, n - 1)) if n > 4 else float(n - 1)


def _tail_factor(gap: npt.NDArray, level: float) -> float:
    """By how much few units with most of the variance widen an interval: 1 where all units tell alike."""
    from scipy.special import stdtrit

    freedom, n = degrees_of_freedom(gap), int((gap != 0).sum())
    if np.isnan(freedom):
        return 1.0
    return float(stdtrit(freedom, (1 + level) / 2) / stdtrit(n - 1, (1 + level) / 2))


def _studentised(
    value: float, error: float, draws: npt.NDArray, errors: npt.NDArray, scale: str, level: float
) -> tuple[float, float]:
    """Bootstrap-t ends on a transformed scale, mapped back."""
    forward, slope, back = _SCALES[scale]
    with np.errstate(divide="ignore", invalid="ignore"):
        centre, width = forward(np.float64(value)), error * slope(np.float64(value))
        t = (forward(draws) - centre) / (errors * slope(draws))
    t = t[np.isfinite(t)]
    if not np.isfinite(centre) or not np.isfinite(width) or width <= 0 or len(t) < 0.9 * len(draws):
        return np.nan, np.nan
    upper, lower = np.quantile(t, [(1 - level) / 2, (1 + level) / 2])
    with np.errstate(over="ignore"):
        ends = back(centre - lower * width), back(centre - upper * width)
    return (float(ends[0]), float(ends[1])) if np.isfinite(ends).all() else (np.nan, np.nan)


_SCALES: dict[str, tuple[Any, Any, Any]] = {
    "linear": (lambda x: x, lambda x: np.ones_like(x), lambda y: y),
    "log": (np.log, lambda x: 1 / x, np.exp),
    "logit": (lambda x: np.log(x / (1 - x)), lambda x: 1 / (x * (1 - x)), lambda y: 1 / (1 + np.exp(-y))),
}


def _between(ordered: npt.NDArray, running: npt.NDArray, place: npt.NDArray) -> npt.NDArray[np.float64]:
    """Order statistics at a fractional place of each resample."""
    if not len(ordered):
        return np.full(len(running), np.nan)
    floor, last = np.floor(place), len(ordered) - 1
    lower = ordered[np.minimum(np.count_nonzero(running <= floor, axis=1), last)]
    upper = ordered[np.minimum(np.count_nonzero(running <= np.ceil(place), axis=1), last)]
    found = lower + (upper - lower) * (place - floor)[:, 0]
    return np.where(running[:, -1] > 0, found, np.nan)
