"""Reads a fitted mixture and its market, makes how often resampled fits find the same segments."""

from __future__ import annotations

import numpy as np

from icplab.segments.blocks import Blocks
from icplab.segments.mixture import Market, Mixture, fit_mixture, posterior

VALID_JACCARD = 0.75  # Hennig (2007), as in fpc::clusterboot: below it membership is doubtful
FIRM_JACCARD = 0.85
REFIT_STARTS = 4
REFIT_TOLERANCE = 1e-4


def jaccard_of_refits(
    blocks: Blocks, model: Mixture, *, seed: int, resamples: int, family: np.ndarray | None = None
) -> np.ndarray:
    """Mean Jaccard similarity of each class with its best match in mixtures refitted to resampled account families.

    It says whether membership is firm or doubtful; it is no evidence that the segments exist.

    Parameters
    ----------
    blocks, model : the market and the mixture fitted to it
    seed : source of the resamples
    resamples : number of refits, each from fresh starts
    family : family of each account, the unit of resampling; None: every account is its own

    Returns
    -------
    (k,) mean similarity, in the order of the model's classes.
    """
    rng = np.random.default_rng([seed, 4])
    market = Market(blocks)
    mine = _members(market, model)
    group = np.arange(market.n) if family is None else np.unique(family.astype(str), return_inverse=True)[1]
    found = np.zeros((resamples, model.k))
    for b in range(resamples):
        # Poisson weights: a bootstrap whose families are drawn independently of each other.
        weights = rng.poisson(1.0, group.max() + 1)[group].astype(float)
        again = Market(blocks, weights)
        refit = fit_mixture(again, model.k, rng, REFIT_STARTS, tolerance=REFIT_TOLERANCE)
        found[b] = jaccard(mine, _members(market, refit)).max(axis=1)
    return found.mean(axis=0)


def jaccard(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(a, b) Jaccard similarity of two sets of 0/1 memberships (n, a) and (n, b)."""
    common = one.T @ other
    either = one.sum(axis=0)[:, None] + other.sum(axis=0)[None, :] - common
    return common / np.maximum(either, 1)


def _members(market: Market, model: Mixture) -> np.ndarray:
    label = posterior(market, model).argmax(axis=1)
    return (label[:, None] == np.arange(model.k)).astype(float)
