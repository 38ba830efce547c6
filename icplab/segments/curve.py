"""Reads a prepared market, makes a continuum fitted to it: one hidden quantity along which every trait changes smoothly.

It is what groups have to beat. Twins from a Gaussian copula keep straight dependence; traits that peak somewhere along a
continuum (what only mid-sized accounts use) are dependent in a way that no straight line shows, and would look like groups.
"""

from __future__ import annotations

import numpy as np

from icplab.segments.design import Market, Mixture
from icplab.segments.em import log_density, log_sums, measure_moments, memberships

NODES = 15  # places along the continuum, equally likely
DEGREES = (1, 4)  # of the polynomials by which a trait may change along it, beside not at all
ROUNDS, TOLERANCE, STEPS = 100, 1e-5, 3
FIRST_WIDTH = 0.5  # of the memberships that a fit starts from, in standard deviations of the hidden quantity
AXES = 2  # principal scores from which a fit starts


def score_of_continuum(market: Market) -> float:
    """Log likelihood of the best continuum found less ½ log n per parameter: comparable with `Mixture.score`.

    Notes
    -----
    A generative topographic mapping of one dimension (Bishop, Svensén & Williams 1998) for mixed data: the hidden quantity is
    normal, taken at NODES quantiles; means and log odds are polynomials in it, of degree 0, 1 or 4, whichever pays for its
    parameters; numbers share one covariance around the curve. Log odds move by the bound of Böhning (1992, Ann. Inst. Stat.
    Math. 44), which does not lower the likelihood.
    """
    axes = market.scores[:, :AXES].T
    return max(_fit(market, axis) for axis in axes)


def _fit(market: Market, along: np.ndarray) -> float:
    from scipy.special import ndtri

    place = ndtri((np.arange(NODES) + 0.5) / NODES)
    basis = np.linalg.qr(np.vander(place, max(DEGREES) + 1, increasing=True))[0] * np.sqrt(NODES)
    rank = np.argsort(np.argsort(along, kind="stable"), kind="stable")
    away = ndtri((rank + 0.5) / market.n)[None, :] - place[:, None]
    resp = memberships((-0.5 * (away / FIRST_WIDTH) ** 2)[None]).astype(market.dtype)
    moments = np.zeros((1, NODES, market.d)), np.eye(market.d)[None, None]
    odds = [np.zeros((len(market.variable), degree + 1)) for degree in DEGREES]
    score = -np.inf
    for _ in range(ROUNDS):
        rate, odds, free = _rates(market, resp, basis, odds)
        moments = _numbers(market, resp, basis, moments)
        density = log_density(market, _as_mixture(rate, *moments))
        before, score = score, float(log_sums(density)[0] @ market.weights) - _penalty(market, free)
        if score - before < TOLERANCE * market.total:
            break
        resp = memberships(density)
    return score


def _as_mixture(rate: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> Mixture:
    """The continuum as a mixture of its places."""
    none = np.zeros(1)
    weight = np.full((1, NODES), 1 / NODES)
    return Mixture(weight, mean, covariance, rate[None], np.zeros((1, 0, NODES), dtype=bool), none, none, none)


def _penalty(market: Market, free: np.ndarray) -> float:
    numeric = market.d * (max(DEGREES) + 1) + market.d * (market.d + 1) / 2
    return 0.5 * float((free + market.size - 1) @ market.log_n + numeric * np.log(market.total))


def _numbers(
    market: Market, resp: np.ndarray, basis: np.ndarray, before: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Means along the curve and the covariance around it."""
    flat = (resp if market.even else resp * market.weights).reshape(NODES, -1)
    size, mean, covariance = measure_moments(market, flat, before)
    weighted = basis * size[0][:, None]
    smooth = basis @ np.linalg.solve(basis.T @ weighted, weighted.T @ mean[0])
    off = mean[0] - smooth
    return smooth[None], covariance + (off * size[0][:, None]).T @ off / market.total


def _rates(
    market: Market, resp: np.ndarray, basis: np.ndarray, odds: list[np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Rates (levels, places) of the degree that pays best, coefficients of each degree, parameters beyond one set of rates."""
    flat = (resp if market.even else resp * market.weights).reshape(NODES, -1)
    counts = (flat @ market.levels).astype(float, copy=False).T + market.pooled[:, None] / NODES
    node = market.per_variable(counts)
    constant = counts.sum(axis=1) / node.sum(axis=1)[market.variable]
    rates, moved = [np.tile(constant[:, None], (1, NODES))], []
    for coefficient in odds:
        used = basis[:, : coefficient.shape[1]]
        inverse = np.linalg.inv(np.einsum("gp,vg,gq->vpq", used, node, used))[market.variable]
        rate = _softmax(market, coefficient @ used.T)
        for _ in range(STEPS):
            gradient = (counts - node[market.variable] * rate) @ used
            coefficient = coefficient + 2 * (inverse @ gradient[:, :, None])[:, :, 0]
            rate = _softmax(market, coefficient @ used.T)
        moved.append(coefficient)
        rates.append(rate)
    told = np.stack([market.per_variable((counts * np.log(np.maximum(r, 1e-12))).sum(axis=1)) for r in rates])
    more = np.array([0, *DEGREES])[:, None] * (market.size - 1)
    best = (told - 0.5 * more * market.log_n).argmax(axis=0)
    rate = np.stack(rates)[best[market.variable], np.arange(len(counts))]
    return np.maximum(rate, 1e-12), moved, more[best, np.arange(len(best))]


def _softmax(market: Market, log_odds: np.ndarray) -> np.ndarray:
    if not len(log_odds):
        return log_odds
    rate = np.exp(log_odds - np.maximum.reduceat(log_odds, market.starts, axis=0)[market.variable])
    return rate / market.per_variable(rate)[market.variable]
