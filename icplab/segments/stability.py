"""Reads a segmentation and the accounts, makes how often refits on resampled account families find the same segments."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from icplab.segments.blocks import Blocks
from icplab.segments.mixture import Market, Mixture, fit_mixture, log_density
from icplab.segments.resampling import collect_optima, draw_weights, refit_resamples

VALID_JACCARD = 0.75  # Hennig (2007), as in fpc::clusterboot: below it membership is doubtful
FIRM_JACCARD = 0.85
OPTIMA_STARTS = 8  # random starts from which the market's optima are collected


def jaccard_of_refits(
    blocks: Blocks, label: np.ndarray, known: Mixture, *, seed: int, resamples: int, family: np.ndarray
) -> np.ndarray:
    """(resamples, k) Jaccard similarity of each class with its best match in a refit of resampled account families.

    Parameters
    ----------
    blocks : the market
    label : (n,) class of each account, 0 … k − 1
    known : the fit that made the labels
    seed : source of resamples and starts
    resamples : number of refits
    family : (n,) family of each account, the unit of resampling
    """
    rng = np.random.default_rng([seed, 4])
    market = Market(blocks, single=True)  # comparisons of fits; half the time
    weights = draw_weights(family, resamples, rng)[:, market.order]
    optima = collect_optima(market, known.k, weights, rng, starts=OPTIMA_STARTS, known=known)
    return refit_resamples(market, optima, label[market.order], weights, "refitting for stability")[0]


def resample_each_k(
    blocks: Blocks, ks: list[int], allowed: np.ndarray, *, seed: int, resamples: int, family: np.ndarray
) -> pd.DataFrame:
    """For each number of classes: how often resampled accounts give the same classes, and how often they choose that number.

    Parameters
    ----------
    blocks : the market
    ks : numbers of classes
    allowed : (len(ks),) which of them may be chosen
    seed, resamples, family : as in `jaccard_of_refits`; every k sees the same resamples

    Returns
    -------
    One row per k: k, jaccard (mean over classes and resamples), weakest (the class found again least), chosen_in (share of
    resamples in which this k has the lowest BIC of those allowed).
    """
    market = Market(blocks, single=True)  # comparisons of fits; half the time
    weights = draw_weights(family, resamples, np.random.default_rng([seed, 4]))[:, market.order]
    found: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    smaller: Mixture | None = None
    for k in ks:
        rng = np.random.default_rng([seed, 40 + k])
        # The best fit with one class less, cut once more: an optimum that random starts find on some resamples only.
        cut = fit_mixture(market, k, rng, OPTIMA_STARTS, smaller=smaller, shapes=True)
        optima = collect_optima(market, k, weights, rng, starts=OPTIMA_STARTS, known=cut)
        smaller = optima[0]
        label = log_density(market, optima[0])[0].argmax(axis=0)
        similar, score = refit_resamples(market, optima, label, weights, f"resampling {k} segments")
        found.append(similar.mean(axis=0))
        scores.append(score if allowed[len(scores)] else np.full(resamples, -np.inf))
    best = np.stack(scores).argmax(axis=0)
    chosen = np.bincount(best, minlength=len(ks)) / max(resamples, 1)
    mean, weakest = ([round(float(f(x)), 4) for x in found] for f in (np.mean, np.min))
    return pd.DataFrame({"k": ks, "jaccard": mean, "weakest": weakest, "chosen_in": chosen.round(4)})


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
