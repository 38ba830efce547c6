"""Reads a segmentation and the accounts, makes how often refits on resampled account families find the same segments."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from icplab.core.progress import track
from icplab.segments.blocks import Blocks
from icplab.segments.mixture import Market, fit_mixture, posterior

VALID_JACCARD = 0.75  # Hennig (2007), as in fpc::clusterboot: below it membership is doubtful
FIRM_JACCARD = 0.85
REFIT_STARTS = 4
REFIT_TOLERANCE = 1e-4


def jaccard_of_refits(
    blocks: Blocks, label: np.ndarray, k: int, *, seed: int, resamples: int, family: np.ndarray
) -> np.ndarray:
    """(resamples, k) Jaccard similarity of each class with its best match in a mixture refitted from fresh starts.

    Parameters
    ----------
    blocks : the market
    label : (n,) class of each account, 0 … k − 1
    k : number of classes
    seed : source of resamples and starts
    resamples : number of refits
    family : (n,) family of each account, the unit of resampling
    """
    rng = np.random.default_rng([seed, 4])
    market = Market(blocks)
    mine = _one_hot(label, k)
    group = np.unique(family.astype(str), return_inverse=True)[1]
    found = np.zeros((resamples, k))
    for b in track(range(resamples), "refitting for stability"):
        # Poisson weights: a bootstrap whose families are drawn independently of each other.
        weights = rng.poisson(1.0, group.max() + 1)[group].astype(float)
        refit = fit_mixture(Market(blocks, weights), k, rng, REFIT_STARTS, tolerance=REFIT_TOLERANCE, shapes=True)
        found[b] = jaccard(mine, _one_hot(posterior(market, refit).argmax(axis=1), k)).max(axis=1)
    return found


def jaccard_of_bands(
    values: np.ndarray, shares: tuple[float, ...], edges: list[float], *, seed: int, resamples: int, family: np.ndarray
) -> np.ndarray:
    """(resamples, bands) the same for bands of one number whose edges are quantiles."""
    rng = np.random.default_rng([seed, 4])
    group = np.unique(family.astype(str), return_inverse=True)[1]
    mine = _one_hot(np.searchsorted(edges, values, side="right"), len(edges) + 1)
    found = np.zeros((resamples, len(edges) + 1))
    for b in range(resamples):
        drawn = np.repeat(values, rng.poisson(1.0, group.max() + 1)[group])
        again = sorted({float(f"{e:.2g}") for e in np.quantile(drawn, shares)}) if len(drawn) else edges
        other = _one_hot(np.searchsorted(again, values, side="right"), len(again) + 1)
        found[b] = jaccard(mine, other).max(axis=1)
    return found


def jaccard(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(a, b) Jaccard similarity of two sets of 0/1 memberships (n, a) and (n, b)."""
    common = one.T @ other
    either = one.sum(axis=0)[:, None] + other.sum(axis=0)[None, :] - common
    return common / np.maximum(either, 1)


def stability_table(found: np.ndarray, ids: list[str], names: Mapping[str, str]) -> pd.DataFrame:
    """segment_id, segment, jaccard (mean), low and high (5th and 95th of the refits), resamples, membership (firm, …)."""
    mean = found.mean(axis=0)
    words = np.select([mean >= FIRM_JACCARD, mean >= VALID_JACCARD], ["firm", "fair"], "doubtful")
    return pd.DataFrame(
        {
            "segment_id": pd.Series(ids, dtype="str"),
            "segment": pd.Series([names[i] for i in ids], dtype="str"),
            "jaccard": mean.round(4),
            "low": np.quantile(found, 0.05, axis=0).round(4),
            "high": np.quantile(found, 0.95, axis=0).round(4),
            "resamples": len(found),
            "membership": pd.Series(words, dtype="str"),
        }
    )


def _one_hot(label: np.ndarray, k: int) -> np.ndarray:
    return (label[:, None] == np.arange(k)).astype(float)
