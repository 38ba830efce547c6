"""Reads a market and the optima of a fit, makes its refits on resampled accounts: from the optimum that a resample prefers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from icplab.core.progress import track
from icplab.segments.design import Market, Mixture
from icplab.segments.em import iterate, log_density, log_sums, memberships
from icplab.segments.mixture import find_optima, fit_mixture

REFIT_ROUNDS, REFIT_TOLERANCE = 40, 1e-4  # EM iterations from a good start; gain per account below which they end
FRESH_RESAMPLES, FRESH_STARTS = 2, 4  # resamples that are also fitted from fresh starts, for optima the market hides
NEAR = 3.0  # a resample also tries the second optimum when its score is within so many standard deviations


def draw_weights(family: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(resamples, n) Poisson weights: a bootstrap whose families are drawn independently of each other."""
    group = np.unique(family.astype(str), return_inverse=True)[1]
    return np.stack([rng.poisson(1.0, group.max() + 1)[group] for _ in range(resamples)]).astype(float)


def collect_optima(
    market: Market, k: int, weights: np.ndarray, rng: np.random.Generator, *, starts: int, known: Mixture | None = None
) -> list[Mixture]:
    """Optima of the market from many starts, from a fit that is known, and those that fresh starts reach on some resamples.

    Parameters
    ----------
    market : the market, without weights
    k : number of classes
    weights : (resamples, n) weights in the market's order of rows
    rng : source of the starts
    starts : random starts on the market
    known : a fit to begin with
    """
    found = find_optima(market, k, rng, starts)
    others = [] if known is None else [known]
    for drawn in weights[:FRESH_RESAMPLES]:
        others.append(
            fit_mixture(market.reweighted(drawn), k, rng, FRESH_STARTS, tolerance=REFIT_TOLERANCE, shapes=True)
        )
    found += [_onwards(market, memberships(log_density(market, m)), m) for m in others]
    found.sort(key=lambda m: -float(m.score[0]))
    return found


def refit_resamples(
    market: Market, optima: Sequence[Mixture], label: np.ndarray, weights: np.ndarray, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Jaccard similarity of each class with its best match in a refit, and the refit's score less ½ per parameter.

    Parameters
    ----------
    market : the market, without weights
    optima : fits of the market with the same number of classes
    label : (n,) class of each account, 0 … k − 1, in the market's order of rows
    weights : (resamples, n) weights in the market's order of rows
    what : what is done, for a bar of progress

    Returns
    -------
    (resamples, k) and (resamples,).

    Notes
    -----
    A resample repeats the luck that the market's own fit already had, so its likelihood flatters each parameter by ½ more than a
    new sample's would (Ishiguro, Sakamoto & Kitagawa 1997); that is taken off.
    Under a resample the log likelihood of fixed parameters is a weighted sum of what it was (RELL: Kishino, Miyata &
    Hasegawa 1990), so one matrix product says which optimum each resample prefers. From there EM runs on.
    """
    k = optima[0].k
    densities = [log_density(market, m) for m in optima]
    alone = np.stack([log_sums(d)[0] for d in densities])  # (optima, n)
    begin = [memberships(d) for d in densities]
    penalty = np.array([float(m.log_likelihood[0] - m.score[0]) for m in optima])
    prefers = weights @ alone.T - penalty
    found, score = np.zeros((len(weights), k)), np.zeros(len(weights))
    for b in track(range(len(weights)), what):
        drawn = market.reweighted(weights[b])
        tried = [_onwards(drawn, begin[i], optima[i]) for i in _to_try(prefers[b], alone, weights[b])]
        best = max(tried, key=lambda m: float(m.score[0]))
        again = log_density(market, best)[0].argmax(axis=0)
        found[b] = jaccard_of_labels(label, again, k)
        score[b] = float(best.score[0] - 0.5 * best.parameters[0])
    return found, score


def jaccard_of_labels(label: np.ndarray, other: np.ndarray, k: int) -> np.ndarray:
    """(k,) Jaccard similarity of each class of `label` with its best match in `other`; classes are 0 … k − 1 in both."""
    common = np.bincount(label * k + other, minlength=k * k).reshape(k, k).astype(float)
    either = common.sum(axis=1)[:, None] + common.sum(axis=0)[None, :] - common
    return (common / np.maximum(either, 1)).max(axis=1)


def _onwards(market: Market, resp: np.ndarray, model: Mixture) -> Mixture:
    """EM from the memberships that a fit gives, with as many covariances as it has."""
    return iterate(market, resp, REFIT_ROUNDS, REFIT_TOLERANCE, shared=model.shared)


def _to_try(prefers: np.ndarray, alone: np.ndarray, weight: np.ndarray) -> list[int]:
    """The preferred optimum, and the next different one where the resample hardly tells them apart."""
    order = np.argsort(-prefers, kind="stable")
    first = int(order[0])
    for second in order[1:]:
        gap = alone[first] - alone[second]
        spread = float(np.sqrt(weight @ gap**2))
        if spread > 1e-3 * len(weight) ** 0.5:  # the same optimum twice is no choice
            return [first, int(second)] if prefers[first] - prefers[second] < NEAR * spread else [first]
    return [first]
