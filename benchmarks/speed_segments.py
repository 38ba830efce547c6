"""Reads nothing, makes the time of resampling every number of segments, beside naive refits of the same method in the same run.

`python -m benchmarks.speed_segments --accounts 10000 30000 100000 --reference 3` prints per size: seconds of `resample_each_k` for 2 to 7
segments, seconds that as many naive refits take (every account, fresh starts, measured on the first `--reference` resamples of
each k and projected to all), the mean absolute difference of the Jaccard similarities between the two, and which k each would
choose; then the growth. Processor seconds of one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from itertools import pairwise

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

KS = (2, 3, 4, 5, 6, 7)
NAIVE_STARTS = 16  # as many as the fit itself takes


def blocks_of(accounts: int, seed: int):
    """The blocks of a planted market of 41 columns."""
    from benchmarks.segment_markets import make_planted
    from icplab.segments.blocks import read_blocks, write_recipe

    made = make_planted(accounts, seed)
    return read_blocks(write_recipe(made.accounts, made.catalogue), made.accounts)


def resample_fast(blocks, resamples: int, seed: int, ks: tuple[int, ...]) -> tuple[float, pd.DataFrame]:
    """Seconds and table of what the page shows: on at most as many accounts as a fit sees."""
    from icplab.segments.fit import FIT_ACCOUNTS
    from icplab.segments.stability import resample_each_k

    start = time.process_time()
    n = len(blocks.account_id)
    rows = np.sort(np.random.default_rng([seed, 3]).choice(n, min(n, FIT_ACCOUNTS), replace=False))
    some = blocks.take(rows)
    table = resample_each_k(
        some, list(ks), np.full(len(ks), True), seed=seed, resamples=resamples, family=some.account_id
    )
    return time.process_time() - start, table


def resample_naively(blocks, resamples: int, seed: int, ks: tuple[int, ...]) -> tuple[float, pd.DataFrame]:
    """Seconds per refit and the same table, every refit from fresh starts on every account."""
    from icplab.segments.mixture import Market, fit_mixture, log_density
    from icplab.segments.resampling import jaccard_of_labels

    market, seconds = Market(blocks), 0.0
    weights = np.random.default_rng([seed, 8]).poisson(1.0, (resamples, market.n)).astype(float)
    rows, scores = [], []
    for k in ks:
        whole = fit_mixture(market, k, np.random.default_rng([seed, k]), NAIVE_STARTS, shapes=True)
        label = log_density(market, whole)[0].argmax(axis=0)
        found = []
        for b in range(resamples):
            start = time.process_time()
            rng = np.random.default_rng([seed, k, b])
            refit = fit_mixture(Market(blocks, weights[b]), k, rng, NAIVE_STARTS, shapes=True)
            again = log_density(market, refit)[0].argmax(axis=0)
            found.append(jaccard_of_labels(label, again, k))
            seconds += time.process_time() - start
            scores.append((k, b, float(refit.score[0] - 0.5 * refit.parameters[0])))
        rows.append((k, np.mean(found), np.mean(found, axis=0).min()))
        print(f"  naive: {k} segments, {seconds:.1f} s so far", file=sys.stderr, flush=True)
    told = pd.DataFrame(scores, columns=["k", "b", "score"]).pivot(index="b", columns="k", values="score")
    table = pd.DataFrame(rows, columns=["k", "jaccard", "weakest"])
    chosen = told.idxmax(axis=1).value_counts(normalize=True).to_dict()
    return seconds / (len(ks) * resamples), table.assign(chosen_in=table["k"].map(chosen).fillna(0.0))


def judge(accounts: int, seed: int, resamples: int, reference: int, ks: tuple[int, ...]) -> tuple[int, float]:
    """One size, printed; its accounts and seconds."""
    blocks = blocks_of(accounts, seed)
    seconds, mine = resample_fast(blocks, resamples, seed, ks)
    print(
        f"\n{accounts:,} accounts, seed {seed}: {resamples} resamples of k = {ks[0]} to {ks[-1]} in {seconds:.1f} s",
        flush=True,
    )
    if reference:
        each, naive = resample_naively(blocks, reference, seed, ks)
        projected = each * resamples * len(ks)
        gap = (mine["jaccard"] - naive["jaccard"]).abs()
        print(
            f"  naive refits: {each:.2f} s each, {projected:,.0f} s in all (from {reference} per k): {projected / seconds:.0f}x (≥ 30x)"
        )
        print(f"  mean |Jaccard difference| {gap.mean():.3f} (≤ 0.03), largest {gap.max():.3f}")
        mine = mine.merge(naive, on="k", suffixes=("", "_naive"))
    print(mine.to_string(index=False), flush=True)
    return accounts, seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--accounts", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--resamples", type=int, default=100)
    parser.add_argument("--reference", type=int, default=3)
    parser.add_argument("--seed", type=int, default=10_000)
    parser.add_argument("--segments", type=int, nargs="+", default=list(KS))
    given = parser.parse_args()
    ks = tuple(given.segments)
    times = [judge(n, given.seed, given.resamples, given.reference, ks) for n in given.accounts]
    for (n, t), (m, u) in pairwise(times):
        print(f"growth {n:,} to {m:,} accounts: exponent {np.log(u / t) / np.log(m / n):.2f} (≤ 1)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
