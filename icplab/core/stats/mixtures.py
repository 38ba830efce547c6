"""Reads estimates with their variances, makes a prior for them: how many effects are idle, small or large, from all together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating]
TURNS, SETTLED = 2000, 1e-8


def fit_normal_mixture(
    estimates: ArrayLike, variances: ArrayLike, widths: Sequence[float], *, idle: float = 10.0
) -> Floats:
    """Weights of normal priors around zero, by maximum likelihood with `idle` effects of the first width added.

    Parameters
    ----------
    estimates, variances
        One effect each (a log ratio, say) with its squared standard error.
    widths
        Standard deviations of the priors, ascending.
    idle
        Effects of the first width thought to have been seen besides: few estimates are judged with caution.

    Returns
    -------
    array
        One weight per width; they sum to 1. Without estimates all weight is on the first.

    Notes
    -----
    Adaptive shrinkage: with the widths held fixed the likelihood is concave in the weights, so that the fit has one answer
    and depends on no start (Stephens 2017, Biostatistics 18(2), sections 2.1 and 2.2; the penalty is his).

    Examples
    --------
    >>> fit_normal_mixture([0.0, 0.1, -0.1, 2.0], [0.01] * 4, [0.05, 1.0], idle=0.0).round(2).tolist()
    [0.75, 0.25]
    """
    likelihood = _likelihoods(estimates, variances, widths)
    weights = np.full(len(widths), 1 / len(widths))
    added = np.zeros(len(widths))
    added[0] = idle
    if not len(likelihood):
        return np.eye(len(widths))[0]
    for _ in range(TURNS):
        share = likelihood * weights
        share /= share.sum(axis=1, keepdims=True)
        new = (share.sum(axis=0) + added) / (len(likelihood) + idle)
        moved = np.abs(new - weights).max()
        weights = new
        if moved < SETTLED:
            break
    return weights


def posterior_means(estimates: ArrayLike, variances: ArrayLike, widths: Sequence[float], weights: ArrayLike) -> Floats:
    """Estimates pulled towards zero by the prior of `fit_normal_mixture`; NaN where an estimate or its variance is."""
    value, noise = np.asarray(estimates, dtype=float), np.asarray(variances, dtype=float)
    share = _likelihoods(value, noise, widths) * np.asarray(weights)
    share /= share.sum(axis=1, keepdims=True)
    spread = np.square(widths)
    return (share * (value[:, None] * spread / (spread + noise[:, None]))).sum(axis=1)


def _likelihoods(estimates: ArrayLike, variances: ArrayLike, widths: Sequence[float]) -> Floats:
    """Likelihood of each estimate under each width, up to a factor of its own."""
    total = np.asarray(variances, dtype=float)[:, None] + np.square(widths)
    logs = -0.5 * (np.log(total) + np.square(np.asarray(estimates, dtype=float))[:, None] / total)
    return np.exp(logs - logs.max(axis=1, keepdims=True)) if len(logs) else logs
