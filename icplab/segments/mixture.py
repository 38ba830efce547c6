"""Reads the blocks of `blocks`, makes a mixture: numbers of one shape or of a shape per class, rates per class where they pay."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from icplab.segments.design import Market, Mixture
from icplab.segments.em import iterate, log_density, memberships
from icplab.segments.starts import cut_starts, draw_starts

SHORT_RUN, LONG_RUN = 12, 80  # EM iterations of every start, and of the best quarter
TOLERANCE = 1e-5  # gain of log likelihood per account and iteration below which a fit has converged

__all__ = ["Market", "Mixture", "entropy", "find_optima", "fit_mixture", "log_density", "posterior"]


def fit_mixture(
    market: Market,
    k: int,
    rng: np.random.Generator,
    starts: int = 16,
    *,
    smaller: Mixture | None = None,
    tolerance: float = TOLERANCE,
    target: float = -np.inf,
    shapes: bool = False,
    rounds: tuple[int, int] = (SHORT_RUN, LONG_RUN),
) -> Mixture:
    """The best of many starts: short runs of all, long runs of the best quarter.

    Parameters
    ----------
    market : prepared blocks
    k : number of classes
    rng : source of the starts
    starts : random starts
    smaller : a fit with one class less; each of its classes, cut in two, gives a further start
    tolerance : gain of log likelihood per account and iteration below which a fit has converged
    target : score to beat; a run stops as soon as it could not reach it at its present pace
    shapes : whether the numbers may have a covariance of their own in each class, where the score is better for it
    rounds : most EM iterations of every start, and of the best quarter
    """
    if k == 1:
        return iterate(market, np.ones((1, 1, market.n), market.dtype), 30, tolerance)
    best: Mixture | None = None
    for resp in _promising(market, k, rng, starts, smaller, tolerance, rounds[0]):
        long = iterate(market, resp, rounds[1], tolerance, target)
        if best is None or long.score[0] > best.score[0]:
            best = long
            target = max(target, float(long.score[0]))
    assert best is not None
    return _with_shapes(market, best, tolerance) if shapes and market.d else best


def find_optima(market: Market, k: int, rng: np.random.Generator, starts: int = 16) -> list[Mixture]:
    """Where the best quarter of the starts ends, with one covariance for all classes and with one for each; best first."""
    if k == 1:
        return [fit_mixture(market, 1, rng)]
    found: list[Mixture] = []
    for resp in _promising(market, k, rng, starts, None, TOLERANCE, SHORT_RUN):
        found.append(iterate(market, resp, LONG_RUN, TOLERANCE))
        if market.d:
            resp = memberships(log_density(market, found[-1]))
            found.append(iterate(market, resp, LONG_RUN, TOLERANCE, shared=False))
    return sorted(found, key=lambda m: -float(m.score[0]))


def _promising(
    market: Market,
    k: int,
    rng: np.random.Generator,
    starts: int,
    smaller: Mixture | None,
    tolerance: float,
    rounds: int,
) -> Iterator[np.ndarray]:
    """Memberships after short runs of all starts, of the best quarter."""
    resp = draw_starts(market, k, rng, starts)
    if smaller is not None:
        resp = np.concatenate([resp, cut_starts(market, smaller, rng)])
    short = iterate(market, resp, rounds, tolerance)
    for start in np.argsort(-short.score, kind="stable")[: max(1, starts // 4)]:
        yield memberships(log_density(market, short.take(np.array([start]))))


def posterior(market: Market, model: Mixture) -> np.ndarray:
    """(n, k) probability of each class for each account, of the first start, in the order of the blocks."""
    out = np.empty((market.n, model.k))
    out[market.order] = memberships(log_density(market, model.take(np.array([0]))))[0].T
    return out


def entropy(resp: np.ndarray) -> float:
    """Entropy of membership, summed over accounts: what ICL adds to BIC."""
    return float(-(resp * np.log(np.maximum(resp, 1e-300))).sum())


def _with_shapes(market: Market, model: Mixture, tolerance: float) -> Mixture:
    """The fit, or one with a covariance per class from its memberships where that has the better score."""
    resp = memberships(log_density(market, model))
    own = iterate(market, resp, LONG_RUN, tolerance, shared=False)
    return own if own.score[0] > model.score[0] else model
