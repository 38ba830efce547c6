"""Reads the blocks of a market, makes twin markets without groups: the same margins, pairwise dependence and unknown cells.

A twin is a draw from a Gaussian copula: latent normals with the correlation that gives the observed one, cut where the margins say.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from icplab.segments.blocks import Blocks

HERMITE_TERMS = 16
GRID = np.linspace(-0.995, 0.995, 81)


def copula_null(blocks: Blocks) -> Callable[[np.random.Generator], Blocks]:
    """A sampler of markets with the same margins, rank dependence and unknown cells, and no groups.

    The latent correlation is found pair by pair, such that scores of the cut variables correlate as observed (the NORTA
    problem, solved on a Hermite expansion), then moved to the nearest correlation matrix. Levels of a category are put in
    the order along which they go most strongly with everything else. Correlations are not shrunk: that would make a
    continuum look like groups.
    """
    variables = _Variables(blocks)
    root = _root(_latent_correlation(variables))

    def draw(rng: np.random.Generator) -> Blocks:
        latent = rng.standard_normal((len(blocks.levels), len(root))) @ root.T
        return variables.cut(latent)

    return draw


class _Variables:
    """Every variable as scores of a cut or mapped latent normal."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self.starts = np.flatnonzero(np.diff(blocks.variable, prepend=-1))
        self.ends = np.append(self.starts[1:], len(blocks.variable))
        self.orders = self._level_orders()
        self.edges = [self._edges(j) for j in range(len(self.starts))]
        self.known = [
            np.flatnonzero(blocks.levels[:, a:b].sum(axis=1) > 0) for a, b in zip(self.starts, self.ends, strict=True)
        ]
        self.margins = self._margins()

    def _level_orders(self) -> list[np.ndarray]:
        """For each variable, its levels along the axis on which they differ most in all other variables."""
        h = self.blocks.levels
        share = h.mean(axis=0)
        centred = (h - share) / np.sqrt(np.maximum(share, 1e-9))
        everything = np.hstack([np.nan_to_num(self.blocks.numbers), centred])
        cross = centred.T @ everything / len(h)
        d = self.blocks.numbers.shape[1]
        orders = []
        for start, end in zip(self.starts, self.ends, strict=True):
            block = cross[start:end].copy()
            block[:, d + start : d + end] = 0.0
            if end - start == 2:
                orders.append(np.arange(2))
                continue
            axis = np.linalg.svd(block, full_matrices=False)[0][:, 0] / np.sqrt(np.maximum(share[start:end], 1e-9))
            axis = axis * (-1.0 if axis[np.abs(axis).argmax()] < 0 else 1.0)
            orders.append(np.argsort(axis, kind="stable"))
        return orders

    def _edges(self, j: int) -> np.ndarray:
        from scipy.special import ndtri

        counts = self.blocks.levels[:, self.starts[j] : self.ends[j]].sum(axis=0)[self.orders[j]]
        return ndtri(np.clip(np.cumsum(counts)[:-1] / max(counts.sum(), 1), 1e-6, 1 - 1e-6))

    def scores(self) -> tuple[np.ndarray, np.ndarray]:
        """Standardised scores (n, p), NaN where unknown, and their Hermite coefficients (p, terms)."""
        columns, coefficients = [], []
        for x in self.blocks.numbers.T:
            columns.append(_normal_scores(x))
            coefficients.append(np.eye(HERMITE_TERMS)[0])
        for j, edges in enumerate(self.edges):
            h = self.blocks.levels[:, self.starts[j] : self.ends[j]][:, self.orders[j]]
            value, hermite = _cut_scores(edges)
            known = h.sum(axis=1) > 0
            columns.append(np.where(known, h @ value, np.nan))
            coefficients.append(hermite)
        return np.column_stack(columns), np.array(coefficients)

    def cut(self, latent: np.ndarray) -> Blocks:
        """Blocks of a market whose latent normals are given; unknown cells stay unknown."""
        from scipy.special import ndtr

        d = self.blocks.numbers.shape[1]
        numbers = np.full_like(self.blocks.numbers, np.nan)
        for i, (known, values, place) in enumerate(self.margins):
            numbers[known, i] = np.interp(ndtr(latent[known, i]), place, values)
        levels = np.zeros_like(self.blocks.levels)
        for j, edges in enumerate(self.edges):
            rows = self.known[j]
            code = self.orders[j][np.searchsorted(edges, latent[rows, d + j])]
            levels[rows, self.starts[j] + code] = 1.0
        return Blocks(self.blocks.account_id, numbers, levels, self.blocks.variable)

    def _margins(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each number: where it is known, its sorted values, and their places between 0 and 1."""
        out = []
        for x in self.blocks.numbers.T:
            known = np.flatnonzero(~np.isnan(x))
            out.append((known, np.sort(x[known]), (np.arange(len(known)) + 0.5) / max(len(known), 1)))
        return out


def _normal_scores(x: np.ndarray) -> np.ndarray:
    from scipy.special import ndtri

    known = ~np.isnan(x)
    out = np.full(len(x), np.nan)
    out[known] = ndtri(pd.Series(x[known]).rank().to_numpy() / (known.sum() + 1))
    spread = out[known].std()
    return out / (spread if spread > 0 else 1.0)


def _cut_scores(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of a standard normal within each band, scaled to variance one, and Hermite coefficients of that step function."""
    from scipy.special import eval_hermitenorm, gammaln, ndtr

    bounds = np.concatenate([[-np.inf], edges, [np.inf]])
    density = np.exp(-0.5 * np.where(np.isinf(bounds), 0, bounds) ** 2) / np.sqrt(2 * np.pi) * ~np.isinf(bounds)
    share = np.maximum(np.diff(ndtr(bounds)), 1e-12)
    value = -np.diff(density) / share
    spread = np.sqrt((share * value**2).sum())
    value = value / max(spread, 1e-9)
    finite = np.where(np.isinf(bounds), 0.0, bounds)
    terms = np.arange(1, HERMITE_TERMS + 1)
    # ∫ He_h φ over a band is He_{h−1}(a)φ(a) − He_{h−1}(b)φ(b).
    edge_values = eval_hermitenorm(terms[:, None] - 1, finite[None, :]) * density
    hermite = -(np.diff(edge_values, axis=1) * value).sum(axis=1) / np.exp(0.5 * gammaln(terms + 1))
    return value, hermite


def _latent_correlation(variables: _Variables) -> np.ndarray:
    """Latent correlation per pair: where the expected correlation of the scores equals the observed one."""
    scores, hermite = variables.scores()
    observed = _pairwise_correlation(scores)
    p = len(observed)
    powers = GRID[:, None] ** np.arange(1, HERMITE_TERMS + 1)
    latent = np.eye(p)
    for i in range(p - 1):
        expected = (hermite[i] * hermite[i + 1 :]) @ powers.T  # (others, grid), increasing in the latent correlation
        latent[i, i + 1 :] = [np.interp(r, e, GRID) for r, e in zip(observed[i, i + 1 :], expected, strict=True)]
    return latent + np.triu(latent, 1).T


def _pairwise_correlation(scores: np.ndarray) -> np.ndarray:
    known = ~np.isnan(scores)
    centred = np.where(known, scores - np.nanmean(scores, axis=0), 0.0)
    square = (centred**2).T @ known
    product = centred.T @ centred
    return product / np.sqrt(np.maximum(square * square.T, 1e-12))


def _root(correlation: np.ndarray) -> np.ndarray:
    """A root of the nearest correlation matrix (negative eigenvalues to zero, unit diagonal)."""
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return root / np.linalg.norm(root, axis=1, keepdims=True)
