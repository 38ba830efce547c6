"""Reads simulated markets, makes the table of docs/decisions/0010-segments.md: ways to segment, judged by the planted segments.

Run with: python -m benchmarks.segment_methods --accounts 1500 --seeds 10
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score
from threadpoolctl import threadpool_limits

from benchmarks.segment_markets import make_planted
from icplab import features
from icplab.core.config import Settings
from icplab.segments import em, mixture
from icplab.segments.blocks import Blocks, read_blocks, write_recipe
from icplab.simulate import simulate_market

CLASSES = range(2, 8)
FAMD_DIMENSIONS = 5
GATE = 0.05  # smallest segment, as a share of the accounts, as in the tool


def wide(blocks: Blocks) -> np.ndarray:
    """Numbers and one-hot levels side by side, unknown numbers at the mean."""
    return np.hstack([np.nan_to_num(blocks.numbers), blocks.levels])


def scores(blocks: Blocks) -> np.ndarray:
    """Leading components of mixed data (FAMD scaling), unscaled."""
    share = blocks.levels.mean(axis=0)
    both = np.hstack([np.nan_to_num(blocks.numbers), (blocks.levels - share) / np.sqrt(np.maximum(share, 1e-9))])
    left, size, _ = np.linalg.svd(both - both.mean(axis=0), full_matrices=False)
    return (left * size)[:, :FAMD_DIMENSIONS]


def kmeans_by_silhouette(points: np.ndarray, seed: int) -> np.ndarray:
    """k-means with the k of the largest silhouette."""
    fits = [KMeans(k, n_init=10, random_state=seed).fit_predict(points) for k in CLASSES]
    return max(fits, key=lambda label: silhouette_score(points, label, sample_size=1000, random_state=seed))


def by_bic(blocks: Blocks, seed: int, shapes: bool = False) -> np.ndarray:
    """The mixture with the lowest BIC among those whose smallest class passes the gate."""
    market = mixture.Market(blocks)
    fits = [mixture.fit_mixture(market, k, np.random.default_rng([seed, k]), 16, shapes=shapes) for k in range(1, 7)]
    label = [mixture.posterior(market, fit).argmax(axis=1) for fit in fits]
    large = [np.bincount(v, minlength=f.k).min() >= GATE * market.n for v, f in zip(label, fits, strict=True)]
    return min(zip(fits, label, large, strict=True), key=lambda each: (not each[2], each[0].bic))[1]


def everything_own(market: mixture.Market, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rates of every class for every variable, whether they pay or not."""
    _, s, k = counts.shape
    used = counts + em.PRIOR_ACCOUNTS * market.pooled[:, None, None]
    own = np.ones((s, len(market.size), k), dtype=bool)
    own[:, :, -1] = False  # k − 1 sets of rates beyond the shared one
    return (used / market.per_variable(used)[market.variable]).transpose(1, 0, 2), own


def independent(moments: Callable) -> Callable:
    """Numbers independent inside a class."""

    def inner(*given):
        size, mean, covariance = moments(*given)
        return size, mean, covariance * np.eye(covariance.shape[1])

    return inner


def methods(blocks: Blocks, true_k: int, seed: int) -> dict[str, np.ndarray]:
    """Labels by each method."""
    chosen, moments = em._rates, em._moments
    out = {
        "k-means on one-hot, k by silhouette": kmeans_by_silhouette(wide(blocks), seed),
        "k-means on one-hot, true k given": KMeans(true_k, n_init=10, random_state=seed).fit_predict(wide(blocks)),
        "FAMD (5) + k-means, k by silhouette": kmeans_by_silhouette(scores(blocks), seed),
        "FAMD (5) + k-means, true k given": KMeans(true_k, n_init=10, random_state=seed).fit_predict(scores(blocks)),
        "mixture, tied covariance, rates where they pay": by_bic(blocks, seed),
        "mixture, tied or own covariance, rates where they pay": by_bic(blocks, seed, shapes=True),
    }
    try:
        em._rates = everything_own
        out["mixture, tied covariance, all rates own"] = by_bic(blocks, seed)
        em._moments = independent(moments)
        out["mixture, numbers independent, all rates own"] = by_bic(blocks, seed)
    finally:
        em._rates, em._moments = chosen, moments
    return out


def measure(accounts: int, seed: int, source: str = "simulator") -> pd.DataFrame:
    """One row per method: share of the oracle's adjusted Rand index, and k."""
    if source == "other":
        made = make_planted(accounts, seed)
        return _judge(made.accounts, made.catalogue, made.label, made.oracle, seed)
    market = simulate_market(accounts, seed=seed)
    as_of = pd.Timestamp("2026-06-30").as_unit("us")
    table = features.build_accounts(market.tables, Settings(), as_of)
    truth = market.truth.accounts.set_index("account_id").loc[sorted(table["account_id"])]
    best = truth.filter(regex="^oracle_segment_").to_numpy().argmax(axis=1)
    catalogue = features.build_catalogue(market.tables, Settings())
    return _judge(table, catalogue, truth["segment"].to_numpy(), best, seed)


def _judge(
    table: pd.DataFrame, catalogue: pd.DataFrame, label: np.ndarray, best: np.ndarray, seed: int
) -> pd.DataFrame:
    blocks = read_blocks(write_recipe(table, catalogue), table)
    oracle = adjusted_rand_score(label, best)
    rows = [
        {"seed": seed, "method": name, "share": adjusted_rand_score(label, v) / oracle, "k": len(set(v))}
        for name, v in methods(blocks, len(set(label)), seed).items()
    ]
    return pd.DataFrame(rows).assign(oracle=oracle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--source", choices=["simulator", "other"], default="simulator")
    given = parser.parse_args()
    with threadpool_limits(1):
        table = pd.concat([measure(given.accounts, seed, given.source) for seed in range(1, given.seeds + 1)])
    by = table.groupby("method", sort=False)
    summary = by["share"].agg(["mean", "min"]).assign(k=by["k"].agg(lambda k: " ".join(map(str, sorted(k)))))
    print(f"{given.accounts} accounts, seeds 1 to {given.seeds}, oracle {table['oracle'].mean():.3f}")
    print(summary.sort_values("mean").round(3).to_string())


if __name__ == "__main__":
    main()
