"""Reads a prepared market, makes memberships to start a fit from: k-means in the leading scores, or a smaller fit cut once more."""

from __future__ import annotations

import numpy as np

from icplab.segments.design import Market, Mixture
from icplab.segments.em import log_density, memberships


def draw_starts(market: Market, k: int, rng: np.random.Generator, starts: int) -> np.ndarray:
    """(starts, k, n) soft labels from a few rounds of k-means around random accounts, in random directions of the scores."""
    scores = market.scores
    out = np.empty((starts, k, market.n), dtype=market.dtype)
    for s in range(starts):
        direction = rng.uniform(0.3, 1.0, size=(scores.shape[1],))
        view = scores * direction.astype(market.dtype, copy=False)
        out[s] = _lloyd(view, k, rng).T
    return out


def cut_starts(market: Market, model: Mixture, rng: np.random.Generator) -> np.ndarray:
    """(k, k + 1, n) the memberships of a fit with one of its classes cut in two, once for each class."""
    resp = memberships(log_density(market, model))[0].T
    scores = market.scores
    out = np.empty((model.k, model.k + 1, market.n))
    for c in range(model.k):
        members = np.flatnonzero(resp.argmax(axis=1) == c)
        halves = np.full((market.n, 2), 0.5)
        if len(members) > 1:
            halves[members] = _lloyd(scores[members], 2, rng)
        out[c] = np.hstack([np.delete(resp, c, axis=1), resp[:, [c]] * halves]).T
    return out


def _lloyd(points: np.ndarray, k: int, rng: np.random.Generator, rounds: int = 4) -> np.ndarray:
    """k-means++ seeds and a few rounds; labels softened so that EM can leave them."""
    length = (points**2).sum(axis=1)
    centre = points[[int(rng.integers(len(points)))]]
    nearest = np.full(len(points), np.inf)
    for _ in range(k - 1):
        from_last = length - 2 * (points @ centre[-1]) + centre[-1] @ centre[-1]
        nearest = np.minimum(nearest, np.maximum(from_last, 1e-12))
        reached = np.cumsum(nearest, dtype=float)
        drawn = int(np.searchsorted(reached, rng.random() * reached[-1], side="right"))
        centre = np.vstack([centre, points[min(drawn, len(points) - 1)]])
    for _ in range(rounds):
        label = ((centre**2).sum(axis=1)[:, None] - 2 * (centre @ points.T)).argmin(axis=0)
        member = (label == np.arange(k)[:, None]).astype(points.dtype)
        size = member.sum(axis=1)
        centre = np.where(size[:, None] > 0, member @ points / np.maximum(size, 1)[:, None], centre)
    return (0.1 / k + 0.9 * member).T
